// Chooses which memory of a machine with several nodes (NUMA) a buffer's pages are taken from.
#pragma once

#include <cstdint>
#include <span>

namespace thermocline {

// Takes the pages of [memory, memory + n_bytes), a whole mapping of its own that nobody has touched
// yet, from these nodes in turn. Returns false where the system refuses; pages then come from the
// node of the thread that touches them first.
bool InterleavePages(void* memory, uint64_t n_bytes, std::span<const int> nodes);

// Interleaves pages of weights that are copied, by one thread, and read by all. They come from the
// nodes beside the CPUs that the process may use, so that every node's memory channels serve every
// matrix. Nothing is done where there is one such node, or where the process was started with a
// memory policy (numactl): that is the user's choice.
void SpreadOverNodes(void* memory, uint64_t n_bytes);

}  // namespace thermocline
