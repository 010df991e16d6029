#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/tokens/kv_page_copy.h"
#include "gpu_kernels/tokens/kv_planes.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreads = 128;

// A block per plane. Sizes are in words; a part is a page, or a slot.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    copy_part_kernel(Word* memory, int64_t plane_size, int64_t part_size, int64_t from,
                     int64_t to) {
  Word* const plane = memory + blockIdx.x * plane_size;
  for (int64_t i = threadIdx.x; i < part_size; i += kThreads) {
    plane[to * part_size + i] = plane[from * part_size + i];
  }
}

}  // namespace

void GpuCopyKvPage(Stream& stream, void* memory, uint64_t n_bytes, int64_t n_planes,
                   int64_t n_slots, int64_t from, int64_t to) {
  constexpr int64_t kVector = sizeof(uint4);
  const int64_t plane_bytes = static_cast<int64_t>(n_bytes) / n_planes;
  const int64_t page_bytes = plane_bytes / n_slots * kGpuKvPageTokens;
  CHECK(page_bytes % kVector == 0 && plane_bytes % kVector == 0);
  Launch(KERNEL(copy_part_kernel<uint4>),
         {.grid = static_cast<unsigned>(n_planes), .block = kThreads, .stream = stream},
         static_cast<uint4*>(memory), plane_bytes / kVector, page_bytes / kVector, from, to);
}

void GpuCopyKvSlot(Stream& stream, void* memory, uint64_t n_bytes, int64_t n_planes,
                   int64_t n_slots, int64_t from, int64_t to) {
  constexpr int64_t kWord = sizeof(uint16_t);
  const int64_t plane_bytes = static_cast<int64_t>(n_bytes) / n_planes;
  const int64_t row_bytes = plane_bytes / n_slots;
  CHECK(row_bytes % kWord == 0);
  Launch(KERNEL(copy_part_kernel<uint16_t>),
         {.grid = static_cast<unsigned>(n_planes), .block = kThreads, .stream = stream},
         static_cast<uint16_t*>(memory), plane_bytes / kWord, row_bytes / kWord, from, to);
}

}  // namespace thermocline
