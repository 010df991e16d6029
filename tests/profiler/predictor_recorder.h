// What the tests of predictors share: what a model's FFNs do with some tokens, and what a predictor
// file says of them.
#pragma once

#include <cstdint>
#include <vector>

#include "predictor/scorer.h"
#include "runtime/pass/executor.h"
#include "runtime/placement/predictor_file.h"

namespace thermocline {

// Keeps the FFN's inputs and outputs of every token, layer by layer as they come.
class FfnRecorder final : public FfnObserver {
 public:
  void OnFfn(const Lane& lane, const FfnObservation& seen) override {
    if (lane.rank == 0) {
      const int64_t d = seen.slice->gate.cols;
      x.insert(x.end(), seen.x, seen.x + seen.n_tokens * d);
      h.insert(h.end(), seen.h, seen.h + seen.n_tokens * seen.slice->n_neurons);
    }
    lane.Sync();
  }
  std::vector<float> x;
  std::vector<float> h;
};

struct PredictedCounts {
  int64_t n_active = 0;
  int64_t n_predicted = 0;
  int64_t n_hits = 0;
  int64_t n_pairs = 0;

  double recall() const { return static_cast<double>(n_hits) / static_cast<double>(n_active); }
  double density() const { return static_cast<double>(n_predicted) / static_cast<double>(n_pairs); }
};

// Counts what one operating point predicts of n tokens against what fires. x: (n, d_model), what
// the predictor reads; h: (n, d_ff).
inline PredictedCounts CountPredicted(const LayerPredictor& predictor, size_t point, const float* x,
                                      const float* h, int64_t n_tokens) {
  const int64_t d_ff = predictor.out_proj.rows;
  LowRankScorer scorer(CpuKernels(), predictor);
  std::vector<float> scores(static_cast<size_t>(d_ff));
  PredictedCounts counts;
  for (int64_t t = 0; t < n_tokens; ++t) {
    scorer.Score(x + t * predictor.in_proj.cols, scores.data());
    for (int64_t i = 0; i < d_ff; ++i) {
      const float score = scores[static_cast<size_t>(i)] + predictor.points[point].bias[i];
      const bool active = h[t * d_ff + i] != 0;
      counts.n_active += active ? 1 : 0;
      counts.n_predicted += score > 0 ? 1 : 0;
      counts.n_hits += active && score > 0 ? 1 : 0;
    }
  }
  counts.n_pairs = n_tokens * d_ff;
  return counts;
}

}  // namespace thermocline
