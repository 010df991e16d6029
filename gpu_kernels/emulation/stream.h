// What the parts of the emulated runtime share: operations, the streams that run them, errors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gpu_kernels/emulation/block.h"
#include "gpu_kernels/emulation/runtime_api.h"

namespace thermocline::emulation {

// One thing for a stream to do: a kernel, a copy. Runs on the stream's thread, each time a graph
// that recorded it is launched.
using Operation = std::function<void()>;

// Enqueues an operation, or records it where the stream is being captured. Operations that follow a
// failed kernel are dropped.
cudaError_t Enqueue(cudaStream_t stream, Operation operation);

// Enqueues a kernel: body() runs once per thread. pointers: its arguments that are pointers; each
// must be null or lie in memory that the device sees.
cudaError_t EnqueueKernel(cudaStream_t stream, const KernelLaunch& launch,
                          const std::vector<const void*>& pointers, std::function<void()> body);

void WaitForAllStreams();

// Notes the error for cudaGetLastError(), and returns it.
cudaError_t Failed(cudaError_t error);

// What every call that cannot be captured returns first: a failed kernel's error, or the one of a
// thread that is capturing.
cudaError_t ErrorUnlessCallable();

}  // namespace thermocline::emulation
