#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/activate.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/ffn.h"
#include "gpu_kernels/products/row_dot.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kWarps = 4;  // of a block; neurons that fire take longer, so that blocks are small
constexpr int kThreads = kWarps * kWarpThreads;

struct GateUpOp {
  const std::byte* gate;
  const std::byte* up;
  const float* gate_bias;
  float* h;
  int64_t row_bytes;
  int64_t n_neurons;
  Activation activation;
  bool skip_inactive;
  int first_token;  // of the list's masks
};

// A warp takes a neuron, gate first: whether up is needed is the same for all its lanes.
template <DType kType, int kTokens>
__global__ void __launch_bounds__(kThreads, MinBlocks(kTokens, kThreads))
    gate_up_kernel(const GateUpOp op, const GpuNeuronList list, const GpuVectors x,
                   int64_t n_tokens) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t p = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpThreads;
  if (p >= op.n_neurons) return;
  const int64_t neuron = NeuronAt(list, p);
  const unsigned wanted = WantedBy(list, p) >> op.first_token & ((1u << kTokens) - 1);
  if (wanted == 0) {
    if (lane < n_tokens) op.h[lane * op.n_neurons + neuron] = 0;
    return;
  }

  const std::byte* const gate_row[] = {op.gate + neuron * op.row_bytes};
  float gate[1][kTokens];
  DotRows<kType>(gate_row, x, n_tokens, 0, 1, gate);
  const float bias = op.gate_bias == nullptr ? 0.0f : op.gate_bias[neuron];
  bool active = !op.skip_inactive;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    gate[0][t] = Activate(op.activation, gate[0][t] + bias);
    active |= (wanted >> t & 1u) != 0 && gate[0][t] != 0;
  }

  const std::byte* const up_row[] = {op.up + neuron * op.row_bytes};
  float up[1][kTokens] = {};
  if (active) DotRows<kType>(up_row, x, n_tokens, 0, 1, up);
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float h = (wanted >> t & 1u) != 0 ? gate[0][t] * up[0][t] : 0.0f;
    if (lane == t && t < n_tokens) op.h[t * op.n_neurons + neuron] = h;
  }
}

constexpr int kElementThreads = 256;

__global__ void __launch_bounds__(kElementThreads)
    activate_multiply_kernel(float* __restrict__ gate, const float* __restrict__ up,
                             const float* __restrict__ gate_bias, Activation activation,
                             int64_t m) {
  const int64_t i = int64_t{blockIdx.x} * kElementThreads + threadIdx.x;
  if (i >= m) return;
  const int64_t at = blockIdx.y * m + i;
  const float bias = gate_bias == nullptr ? 0.0f : gate_bias[i];
  gate[at] = Activate(activation, gate[at] + bias) * up[at];
}

}  // namespace

void GpuFfnGateUp(Stream& stream, const GpuGateUp& weights, GpuSkip skip, const GpuNeuronList& list,
                  const GpuVectors& x, int64_t n_tokens, float* h) {
  const GpuMatrix& gate = weights.gate;
  const GpuMatrix& up = weights.up;
  CHECK(gate.dtype == up.dtype && gate.rows == up.rows && gate.cols == up.cols &&
        gate.cols == x.cols);
  if (gate.rows == 0) return;
  const auto grid = static_cast<unsigned>(CeilDiv(gate.rows, kWarps));
  for (int64_t first = 0; first < n_tokens; first += kMaxTokens) {
    const int64_t n = std::min(n_tokens - first, kMaxTokens);
    const GateUpOp op{gate.data,
                      up.data,
                      weights.gate_bias,
                      h + first * gate.rows,
                      gate.row_bytes,
                      gate.rows,
                      weights.activation,
                      skip == GpuSkip::kInactive,
                      static_cast<int>(first)};
    WithTypeAndTokens(gate.dtype, n, [&](auto type, auto tokens) {
      Launch(KERNEL(gate_up_kernel<type(), tokens()>),
             {.grid = grid, .block = kThreads, .stream = stream}, op, list, VectorsFrom(x, first),
             n);
    });
  }
}

void GpuActivateMultiply(Stream& stream, Activation activation, const float* gate_bias,
                         const float* up, int64_t n_tokens, int64_t m, float* gate) {
  if (n_tokens == 0 || m == 0) return;
  const dim3 grid(static_cast<unsigned>(CeilDiv(m, kElementThreads)),
                  static_cast<unsigned>(n_tokens));
  Launch(KERNEL(activate_multiply_kernel),
         {.grid = grid, .block = kElementThreads, .stream = stream}, gate, up, gate_bias,
         activation, m);
}

}  // namespace thermocline
