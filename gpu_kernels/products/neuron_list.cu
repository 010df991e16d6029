#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/activate.h"
#include "gpu_kernels/products/neuron_list.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kWarps = 32;
constexpr int kThreads = kWarps * kWarpThreads;

struct Scores {
  const float* scores;
  int64_t n_tokens;
  int64_t n_neurons;
  float predictor_threshold;

  // Whether each token wants the neuron: bit t is token t's.
  __device__ unsigned Wanted(int64_t neuron) const {
    unsigned mask = 0;
    for (int64_t t = 0; t < n_tokens && neuron < n_neurons; ++t) {
      const bool below = scores[t * n_neurons + neuron] <= predictor_threshold;
      mask |= static_cast<unsigned>(!below) << t;
    }
    return mask;
  }
};

// One block. Every warp takes one stretch of neurons: it counts what is predicted there, learns how
// many come before, and goes through its stretch again to write.
__global__ void __launch_bounds__(kThreads)
    neuron_list_kernel(const Scores scores, const GpuNeuronList list, int32_t* n_wanted) {
  SHARED_ARRAY(int, counts, kWarps);
  SHARED_ARRAY(int, bits, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t stretch = (scores.n_neurons + kThreads - 1) / kThreads * kWarpThreads;
  const int64_t begin = warp * stretch;
  const int64_t end = min(begin + stretch, scores.n_neurons);

  int count = 0;
  int n_bits = 0;
  for (int64_t at = begin; at < end; at += kWarpThreads) {
    const unsigned wanted = scores.Wanted(at + lane);
    count += __popc(__ballot_sync(kFullWarpMask, wanted != 0));
    n_bits += __popc(wanted);
  }
  n_bits = WarpSum(n_bits);
  if (lane == 0) {
    counts[warp] = count;
    bits[warp] = n_bits;
  }
  __syncthreads();

  const int of_lane = counts[lane];
  const int all_bits = WarpSum(static_cast<int>(bits[lane]));
  int before = 0;
  int total = 0;
  for (int w = 0; w < kWarps; ++w) {
    const int n = __shfl_sync(kFullWarpMask, of_lane, w);
    if (w < warp) before += n;
    total += n;
  }
  for (int64_t at = begin; at < end; at += kWarpThreads) {
    const int64_t neuron = at + lane;
    const unsigned wanted = scores.Wanted(neuron);
    const unsigned mask = __ballot_sync(kFullWarpMask, wanted != 0);
    const int rank = before + __popc(mask & ((1u << lane) - 1));
    if (wanted != 0) {
      list.rows[rank] = static_cast<int32_t>(neuron);
      list.masks[rank] = wanted;
    } else if (neuron < scores.n_neurons) {
      list.rows[total + neuron - rank] = static_cast<int32_t>(neuron);
    }
    before += __popc(mask);
  }
  if (threadIdx.x == 0) {
    *list.count = total;
    *n_wanted = all_bits;
  }
}

// A thread per neuron.
__global__ void __launch_bounds__(kThreads)
    drop_unwanted_kernel(const GpuNeuronList list, int64_t n_tokens, int64_t n_neurons, float* h) {
  const int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= n_neurons) return;
  const int64_t neuron = NeuronAt(list, p);
  const unsigned wanted = WantedBy(list, p);
  for (int64_t t = 0; t < n_tokens; ++t) {
    if ((wanted >> t & 1u) == 0) h[t * n_neurons + neuron] = 0;
  }
}

struct AuditOp {
  const float* gates;
  const float* gate_bias;
  GpuActivation activation;
  int64_t n_tokens;
  int64_t n_neurons;
};

// One block; sums are of whole numbers, so that their order does not matter.
__global__ void __launch_bounds__(kThreads)
    audit_list_kernel(const AuditOp op, const GpuNeuronList list, GpuListAudit* audit) {
  SHARED_ARRAY(int, hits, kWarps);
  SHARED_ARRAY(int, active, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  int n_hits = 0;
  int n_active = 0;
  for (int64_t p = threadIdx.x; p < op.n_neurons; p += kThreads) {
    const int64_t neuron = list.rows[p];
    const unsigned wanted = WantedBy(list, p);
    const float bias = op.gate_bias == nullptr ? 0.0f : op.gate_bias[neuron];
    for (int64_t t = 0; t < op.n_tokens; ++t) {
      if (Activate(op.activation, op.gates[t * op.n_neurons + neuron] + bias) == 0) continue;
      ++n_active;
      n_hits += static_cast<int>(wanted >> t & 1u);
    }
  }
  n_hits = WarpSum(n_hits);
  n_active = WarpSum(n_active);
  if (lane == 0) {
    hits[warp] = n_hits;
    active[warp] = n_active;
  }
  __syncthreads();
  if (warp != 0) return;
  n_hits = WarpSum(static_cast<int>(hits[lane]));
  n_active = WarpSum(static_cast<int>(active[lane]));
  if (lane == 0) *audit = {n_hits, n_active - n_hits};
}

}  // namespace

void GpuListNeurons(Stream& stream, const float* scores, int64_t n_tokens, int64_t n_neurons,
                    float predictor_threshold, const GpuNeuronList& list, int32_t* n_wanted) {
  CHECK(n_tokens <= kMaxListTokens);
  Launch(KERNEL(neuron_list_kernel), {.grid = 1, .block = kThreads, .stream = stream},
         Scores{scores, n_tokens, n_neurons, predictor_threshold}, list, n_wanted);
}

void GpuDropUnwanted(Stream& stream, const GpuNeuronList& list, int64_t n_tokens, int64_t n_neurons,
                     float* h) {
  CHECK(n_tokens <= kMaxListTokens);
  const auto grid = static_cast<unsigned>((n_neurons + kThreads - 1) / kThreads);
  if (grid == 0) return;
  Launch(KERNEL(drop_unwanted_kernel), {.grid = grid, .block = kThreads, .stream = stream}, list,
         n_tokens, n_neurons, h);
}

void GpuAuditList(Stream& stream, const GpuNeuronList& list, const float* gates,
                  const float* gate_bias, const GpuActivation& activation, int64_t n_tokens,
                  int64_t n_neurons, GpuListAudit* audit) {
  CHECK(list.masks != nullptr && n_tokens <= kMaxListTokens);
  Launch(KERNEL(audit_list_kernel), {.grid = 1, .block = kThreads, .stream = stream},
         AuditOp{gates, gate_bias, activation, n_tokens, n_neurons}, list, audit);
}

}  // namespace thermocline
