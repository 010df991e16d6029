// How the device layer calls CUDA: no call's result is ignored.
#pragma once

#include <string>

#include "gpu_kernels/base/cuda_api.h"

namespace thermocline {

// Throws Error: what was being done, CUDA's name and text for the error, file and line.
[[noreturn]] void ThrowCudaError(cudaError_t error, const std::string& what, const char* file,
                                 int line);

}  // namespace thermocline

// CUDA_CHECK(call) throws Error unless the call returns cudaSuccess. CUDA_CHECK_FOR says in words
// what the call is for instead of repeating it.
#define CUDA_CHECK(call) CUDA_CHECK_FOR(call, #call)
#define CUDA_CHECK_FOR(call, what)                                            \
  do {                                                                        \
    const cudaError_t error_of_call = (call);                                 \
    if (error_of_call != cudaSuccess) [[unlikely]] {                          \
      ::thermocline::ThrowCudaError(error_of_call, what, __FILE__, __LINE__); \
    }                                                                         \
  } while (false)
