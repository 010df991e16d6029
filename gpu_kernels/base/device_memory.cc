#include "gpu_kernels/base/device_memory.h"

#include <fmt/format.h>

#include "gpu_kernels/base/check.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"

namespace thermocline {

DeviceMemoryUse QueryDeviceMemory() {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return {free_bytes, total_bytes};
}

DeviceMemory::DeviceMemory(uint64_t n_bytes, const std::string& purpose) {
  if (n_bytes == 0) return;
  const cudaError_t error = cudaMalloc(&data_, n_bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const DeviceMemoryUse use = QueryDeviceMemory();
    throw Error({.what = "no GPU memory for " + purpose,
                 .expected = FormatBytes(n_bytes),
                 .found = fmt::format("{} free of {}", FormatBytes(use.free_bytes),
                                      FormatBytes(use.total_bytes)),
                 .hint = "place fewer neurons on the GPU, shorten the context, or free its memory",
                 .settings = {{Setting::kGpuLayers}, {Setting::kContextSize}}});
  }
  CUDA_CHECK_FOR(error, "allocating " + purpose);
  n_bytes_ = n_bytes;
}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) static_cast<void>(cudaFree(data_));
}

MappedMemory::MappedMemory(uint64_t n_bytes, const std::string& purpose) {
  if (n_bytes == 0) return;
  const cudaError_t error =
      cudaHostAlloc(&host_, n_bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error({.what = "no pinned host memory for " + purpose,
                 .expected = FormatBytes(n_bytes),
                 .hint = "free memory, or raise the limit of locked memory (ulimit -l)"});
  }
  CUDA_CHECK_FOR(error, "allocating " + purpose);
  n_bytes_ = n_bytes;
  CUDA_CHECK(cudaHostGetDevicePointer(&device_, host_, 0));
}

MappedMemory::~MappedMemory() {
  if (host_ != nullptr) static_cast<void>(cudaFreeHost(host_));
}

}  // namespace thermocline
