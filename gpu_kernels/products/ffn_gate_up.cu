#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/activate.h"
#include "gpu_kernels/products/cut_value.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/ffn.h"
#include "gpu_kernels/products/norm_row.h"
#include "gpu_kernels/products/row_dot.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kWarps = 4;  // of a block; neurons that fire take longer, so that blocks are small
constexpr int kThreads = kWarps * kWarpThreads;

struct GateUpOp {
  const std::byte* gate;
  const std::byte* up;  // null: a plain FFN
  const float* gate_bias;
  const float* up_bias;
  const float* gate_added;
  const float* up_added;
  const float* gates;  // known already, or null
  float* h;
  int64_t row_bytes;
  int64_t n_neurons;
  GpuActivation activation;
  bool skip_inactive;
  int first_token;  // of the list's masks
  GpuRowCut activated_cut;
};

// Returns values[lane], and on lanes behind the last value the last.
template <int kTokens>
__device__ inline float OfLane(const float (&values)[kTokens], int lane) {
  float value = values[kTokens - 1];
#pragma unroll
  for (int t = 0; t + 1 < kTokens; ++t) value = lane == t ? values[t] : value;
  return value;
}

// Returns the lane's token's element of values that may be null.
__device__ inline float Added(const float* added, int lane, int64_t n_tokens, int64_t n_neurons,
                              int64_t neuron) {
  return added == nullptr || lane >= n_tokens ? 0.0f : added[lane * n_neurons + neuron];
}

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

  float own;  // the gate of the lane's token: from here on a lane has one of its own
  if (op.gates != nullptr) {
    own = Added(op.gates, lane, n_tokens, op.n_neurons, neuron);
  } else {
    const std::byte* const gate_row[] = {op.gate + neuron * op.row_bytes};
    float gate[1][kTokens];
    DotRows<kType>(gate_row, x, n_tokens, 0, 1, gate);
    const float bias = op.gate_bias == nullptr ? 0.0f : op.gate_bias[neuron];
    const float added = Added(op.gate_added, lane, n_tokens, op.n_neurons, neuron);
    own = OfLane(gate[0], lane) + bias + added;
  }
  float act = Activate(op.activation, own);
  if (lane < n_tokens && IsCut(op.activated_cut, lane)) {
    act = CutValue(op.activated_cut, neuron, act);
  }
  const bool mine = lane < n_tokens && (wanted >> lane & 1u) != 0;
  const bool active = __any_sync(kFullWarpMask, mine && act != 0) != 0 || !op.skip_inactive;
  float h = mine ? act : 0.0f;
  if (op.up != nullptr) {
    float up[1][kTokens] = {};
    const std::byte* const up_row[] = {op.up + neuron * op.row_bytes};
    if (active) DotRows<kType>(up_row, x, n_tokens, 0, 1, up);
    float factor = OfLane(up[0], lane);
    if (op.up_bias != nullptr) factor += op.up_bias[neuron];
    factor += Added(op.up_added, lane, n_tokens, op.n_neurons, neuron);
    if (op.activation.relu_up) factor = DropBelow(factor, 0);
    h = mine ? act * factor : 0.0f;
  }
  if (lane < n_tokens) op.h[lane * op.n_neurons + neuron] = h;
}

// A block per token.
__global__ void __launch_bounds__(kNormThreads)
    cut_gates_kernel(float* gate, float cut, int64_t m) {
  SHARED_ARRAY(float, sums, kWarpThreads);
  SHARED_ARRAY(float, squares, kWarpThreads);
  float* const row = gate + blockIdx.x * m;
  const auto n = static_cast<float>(m);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < m; i += kNormThreads) sum += row[i];
  const float mean = BlockSum(sum, sums) / n;
  float square = 0;
  for (int64_t i = threadIdx.x; i < m; i += kNormThreads) {
    const float off = row[i] - mean;
    square = fmaf(off, off, square);
  }
  const float least = mean + cut * sqrtf(BlockSum(square, squares) / n);
  for (int64_t i = threadIdx.x; i < m; i += kNormThreads) row[i] = DropBelow(row[i] - least, 0);
}

constexpr int kElementThreads = 256;

__global__ void __launch_bounds__(kElementThreads)
    activate_multiply_kernel(float* __restrict__ gate, const GpuActivateOp op, int64_t m) {
  const int64_t i = int64_t{blockIdx.x} * kElementThreads + threadIdx.x;
  if (i >= m) return;
  const int64_t at = blockIdx.y * m + i;
  const float bias = op.gate_bias == nullptr ? 0.0f : op.gate_bias[i];
  float h = Activate(op.activation, gate[at] + bias);
  if (IsCut(op.activated_cut, blockIdx.y)) h = CutValue(op.activated_cut, i, h);
  if (op.up != nullptr) {
    const float up = op.up_bias == nullptr ? op.up[at] : op.up[at] + op.up_bias[i];
    h *= op.activation.relu_up ? DropBelow(up, 0) : up;
  }
  gate[at] = h;
}

}  // namespace

void GpuFfnGateUp(Stream& stream, const GpuGateUp& weights, GpuSkip skip, const GpuNeuronList& list,
                  const GpuVectors& x, int64_t n_tokens, float* h) {
  const GpuMatrix& gate = weights.gate;
  const GpuMatrix& up = weights.up;
  const bool gated = up.rows > 0;
  CHECK(gate.cols == x.cols);
  CHECK(!gated || (gate.dtype == up.dtype && gate.rows == up.rows && gate.cols == up.cols));
  if (gate.rows == 0) return;
  const auto grid = static_cast<unsigned>(CeilDiv(gate.rows, kWarps));
  const auto from_first = [&](const float* added, int64_t first) {
    return added == nullptr ? nullptr : added + first * gate.rows;
  };
  for (int64_t first = 0; first < n_tokens; first += kMaxTokens) {
    const int64_t n = std::min(n_tokens - first, kMaxTokens);
    const GateUpOp op{gate.data,
                      gated ? up.data : nullptr,
                      weights.gate_bias,
                      weights.up_bias,
                      from_first(weights.gate_added, first),
                      from_first(weights.up_added, first),
                      from_first(weights.gates, first),
                      h + first * gate.rows,
                      gate.row_bytes,
                      gate.rows,
                      weights.activation,
                      skip == GpuSkip::kInactive,
                      static_cast<int>(first),
                      CutFrom(weights.activated_cut, first)};
    WithTypeAndTokens(gate.dtype, n, [&](auto type, auto tokens) {
      Launch(KERNEL(gate_up_kernel<type(), tokens()>),
             {.grid = grid, .block = kThreads, .stream = stream}, op, list, VectorsFrom(x, first),
             n);
    });
  }
}

void GpuCutGates(Stream& stream, float cut, int64_t n_tokens, int64_t m, float* gate) {
  if (n_tokens == 0 || m == 0) return;
  Launch(KERNEL(cut_gates_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream}, gate,
         cut, m);
}

void GpuActivateMultiply(Stream& stream, const GpuActivateOp& op, int64_t n_tokens, int64_t m,
                         float* gate) {
  if (n_tokens == 0 || m == 0) return;
  const dim3 grid(static_cast<unsigned>(CeilDiv(m, kElementThreads)),
                  static_cast<unsigned>(n_tokens));
  Launch(KERNEL(activate_multiply_kernel),
         {.grid = grid, .block = kElementThreads, .stream = stream}, gate, op, m);
}

}  // namespace thermocline
