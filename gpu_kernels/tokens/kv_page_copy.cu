#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/tokens/kv_page_copy.h"
#include "gpu_kernels/tokens/kv_planes.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreads = 128;

// A block per plane. Sizes are in vectors of 16 bytes.
__global__ void __launch_bounds__(kThreads)
    copy_page_kernel(uint4* memory, int64_t plane_size, int64_t page_size, int64_t from,
                     int64_t to) {
  uint4* const plane = memory + blockIdx.x * plane_size;
  for (int64_t i = threadIdx.x; i < page_size; i += kThreads) {
    plane[to * page_size + i] = plane[from * page_size + i];
  }
}

}  // namespace

void GpuCopyKvPage(Stream& stream, void* memory, uint64_t n_bytes, int64_t n_planes,
                   int64_t n_slots, int64_t from, int64_t to) {
  constexpr int64_t kVector = sizeof(uint4);
  const int64_t plane_bytes = static_cast<int64_t>(n_bytes) / n_planes;
  const int64_t page_bytes = plane_bytes / n_slots * kGpuKvPageTokens;
  CHECK(page_bytes % kVector == 0 && plane_bytes % kVector == 0);
  Launch(KERNEL(copy_page_kernel),
         {.grid = static_cast<unsigned>(n_planes), .block = kThreads, .stream = stream},
         static_cast<uint4*>(memory), plane_bytes / kVector, page_bytes / kVector, from, to);
}

}  // namespace thermocline
