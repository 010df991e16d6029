// Loops that run offline: converting, packing, building. They are OpenMP's, in one place. Decoding
// has a team of its own (team.h says why).
#pragma once

#include <cstdint>
#include <functional>

namespace thermocline {

// Runs body(thread, begin, end) over [0, n) in chunks of `grain` (the last may be shorter), each on
// whichever of n_threads threads is free. The chunks are the same for any number of threads, so
// what is stored per chunk is, too. thread: 0 to n_threads - 1, for scratch memory. A library
// called inside (oneDNN) stays on the thread that calls it.
//
// When the body throws, later chunks are left out, and the error of the first chunk that failed is
// rethrown here, after all threads have left: the same error for any number of threads. Where the
// system starts no more threads, though, libgomp ends the program, with a line of its own.
// REQUIRES: grain >= 1, n_threads >= 1.
void ParallelFor(int64_t n, int64_t grain, int n_threads,
                 const std::function<void(int thread, int64_t begin, int64_t end)>& body);

}  // namespace thermocline
