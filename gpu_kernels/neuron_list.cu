#include "gpu_kernels/launch.h"
#include "gpu_kernels/neuron_list.h"
#include "gpu_kernels/warp_reduce.h"

namespace thermocline {
namespace {

constexpr int kWarps = 32;
constexpr int kThreads = kWarps * kWarpThreads;

struct Scores {
  const float* scores;
  int64_t n_tokens;
  int64_t n_neurons;
  float predictor_threshold;

  __device__ bool Predicted(int64_t neuron) const {
    bool predicted = false;
    for (int64_t t = 0; t < n_tokens && neuron < n_neurons; ++t) {
      predicted |= scores[t * n_neurons + neuron] > predictor_threshold;
    }
    return predicted;
  }
};

// One block. Every warp takes one stretch of neurons: it counts what is predicted there, learns how
// many come before, and goes through its stretch again to write.
__global__ void __launch_bounds__(kThreads) neuron_list_kernel(Scores scores, GpuNeuronList list) {
  SHARED_ARRAY(int, counts, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t stretch = (scores.n_neurons + kThreads - 1) / kThreads * kWarpThreads;
  const int64_t begin = warp * stretch;
  const int64_t end = min(begin + stretch, scores.n_neurons);

  int count = 0;
  for (int64_t at = begin; at < end; at += kWarpThreads) {
    count += __popc(__ballot_sync(kFullWarpMask, scores.Predicted(at + lane)));
  }
  if (lane == 0) counts[warp] = count;
  __syncthreads();

  const int of_lane = counts[lane];
  int before = 0;
  int total = 0;
  for (int w = 0; w < kWarps; ++w) {
    const int n = __shfl_sync(kFullWarpMask, of_lane, w);
    if (w < warp) before += n;
    total += n;
  }
  for (int64_t at = begin; at < end; at += kWarpThreads) {
    const bool predicted = scores.Predicted(at + lane);
    const unsigned mask = __ballot_sync(kFullWarpMask, predicted);
    const int rank = __popc(mask & ((1u << lane) - 1));
    if (predicted) list.rows[before + rank] = static_cast<int32_t>(at + lane);
    before += __popc(mask);
  }
  if (threadIdx.x == 0) *list.count = total;
}

}  // namespace

void GpuListNeurons(Stream& stream, const float* scores, int64_t n_tokens, int64_t n_neurons,
                    float predictor_threshold, const GpuNeuronList& list) {
  Launch(KERNEL(neuron_list_kernel), {.grid = 1, .block = kThreads, .stream = stream},
         Scores{scores, n_tokens, n_neurons, predictor_threshold}, list);
}

}  // namespace thermocline
