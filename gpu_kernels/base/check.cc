#include "gpu_kernels/base/check.h"

#include <fmt/format.h>

#include <string_view>

#include "runtime/core/error.h"

namespace thermocline {

void ThrowCudaError(cudaError_t error, const std::string& what, const char* file, int line) {
  std::string_view name = file;
  const size_t ours = name.rfind("gpu_kernels/");
  if (ours != std::string_view::npos) name.remove_prefix(ours);
  cudaGetLastError();  // an error that is not sticky must not be reported a second time
  throw Error({.what = fmt::format("GPU: {} failed: {} ({}) at {}:{}", what,
                                   cudaGetErrorString(error), cudaGetErrorName(error), name, line),
               .hint = error == cudaErrorMemoryAllocation
                           ? "place fewer neurons on the GPU, or free its memory"
                           : "THERMOCLINE_SYNC_LAUNCHES=1 names the kernel that failed"});
}

}  // namespace thermocline
