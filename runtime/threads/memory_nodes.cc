#include "runtime/threads/memory_nodes.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

constexpr size_t kWordBits = 8 * sizeof(unsigned long);

bool HasDefaultPolicy() {
  int mode = MPOL_DEFAULT;
  return syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0 && mode == MPOL_DEFAULT;
}

}  // namespace

bool InterleavePages(void* memory, uint64_t n_bytes, std::span<const int> nodes) {
  if (nodes.empty()) return false;
  std::vector<unsigned long> mask(static_cast<size_t>(std::ranges::max(nodes)) / kWordBits + 1, 0);
  for (const int node : nodes) {
    mask[static_cast<size_t>(node) / kWordBits] |= 1UL << (static_cast<size_t>(node) % kWordBits);
  }
  // The kernel reads one bit less than it is told of.
  return syscall(SYS_mbind, memory, n_bytes, MPOL_INTERLEAVE, mask.data(),
                 mask.size() * kWordBits + 1, 0) == 0;
}

void SpreadOverNodes(void* memory, uint64_t n_bytes) {
  static const std::vector<int> nodes =
      HasDefaultPolicy() ? NodesBeside(ThreadCpus()) : std::vector<int>();
  if (nodes.size() > 1) (void)InterleavePages(memory, n_bytes, nodes);
}

}  // namespace thermocline
