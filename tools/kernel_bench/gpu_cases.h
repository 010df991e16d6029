// Times GPU kernels against the device's own read bandwidth. The cases are registered where there
// is a GPU:
//
//   gpu/read, gpu/copy                                    plain reads; copies inside the device
//   gpu/matvec/TYPE/rows:N/cols:N                         decode: one token
//   gpu/gate_up/TYPE/density:PERCENT, gpu/down/...        neurons that fire, of a layer's hot ones
//   gpu/list/neurons:N                                    a predictor's scores to a list
//   gpu/attention/TYPE/context:N                          one token, 4 query heads to a KV head
//   gpu/gemm/TYPE/tokens:N                                prefill: panels and cuBLAS
//   gpu/handover/d_model:N                                x to the host and y back
//
// A case is a chain of equal operations on weights of their own, at least 2 GB together where there
// is room, so that no cache serves them. The chain is computed once and compared with a reference
// in double. Then it is timed by events around a graph (cuBLAS: around the calls). Times are those
// of one operation of the chain. Counters are as in kernel_bench.cc, the roof being gpu/read.
//
// On the emulated device each case runs once at a small shape and is compared; nothing is timed,
// and the label says so.
#pragma once

namespace thermocline {

void RegisterGpuCases();
// Gives back what the cases share on the GPU, once they have run. It is not left to the end of the
// program, when there may be no driver any more.
void ReleaseGpuCases();

}  // namespace thermocline
