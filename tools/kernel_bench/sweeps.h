// Kernels timed over density, run length, row size, context length and threads. A part of the
// combinations is registered as a rule; with `all`, every one. Each registers its benchmarks under
// a name of its own, so that --benchmark_filter can select them.
#pragma once

namespace thermocline {

// sweep/{matvec,accumulate,channels}/TYPE/density:PERCENT/run:ROWS/cols:N/threads:N
void RegisterRowSweeps(bool all);
// attention/TYPE/context:N/group:QUERY_HEADS/threads:N
void RegisterAttentionSweeps(bool all);
// ops/NAME/{L1,L2}
void RegisterOps();
// cached/{matvec,accumulate,channels}/TYPE
void RegisterCached();

}  // namespace thermocline
