#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/row_moves.h"

namespace thermocline {
namespace {

constexpr int kThreads = 128;

// A block per move.
__global__ void __launch_bounds__(kThreads) move_rows_kernel(const GpuRowMove* moves) {
  const GpuRowMove move = moves[blockIdx.x];
  for (int64_t i = threadIdx.x; i < move.n_words; i += kThreads) move.to[i] = move.from[i];
}

}  // namespace

void GpuMoveRows(Stream& stream, const GpuRowMove* moves, int64_t n_moves) {
  if (n_moves == 0) return;
  Launch(KERNEL(move_rows_kernel),
         {.grid = static_cast<unsigned>(n_moves), .block = kThreads, .stream = stream}, moves);
}

}  // namespace thermocline
