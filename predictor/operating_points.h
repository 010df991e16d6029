// Chooses thresholds on held-out tokens: which scores are low enough to skip a neuron. It is the
// greedy cheapest-miss rule of arXiv:2603.14110.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace thermocline {

// What is known of some tokens that run through a layer.
struct ScoredTokens {
  int64_t n_tokens = 0;
  int64_t d_ff = 0;
  const float* scores = nullptr;  // (n_tokens, d_ff)
  const float* parts = nullptr;   // (n_tokens, d_ff) h_i ||w_down,i||; 0 where not active
};

// One raise of a neuron's threshold: what is skipped in addition, and what is lost by it.
struct ThresholdRaise {
  double cost_per_skip = 0;  // (h_i ||w_down,i||)^2 per token skipped
  int32_t neuron = 0;
  int32_t n_skipped = 0;
  int32_t n_missed = 0;           // active ones among the tokens skipped
  float predictor_threshold = 0;  // scores up to here are skipped afterwards
};

// The raises worth making for neurons [begin, end), each neuron's in order and of rising cost. At
// 256 quantiles of its scores the loss is summed up, and the lower convex hull of these sums is
// kept, so that a cheap bin behind a dear one counts together with it. Each neuron's threshold that
// skips nothing is kept, too. Several threads may do different neurons at once.
struct NeuronRaises {
  std::vector<ThresholdRaise> raises;
  std::vector<float> lowest;  // (end - begin)
};
NeuronRaises FindRaises(const ScoredTokens& tokens, int64_t begin, int64_t end);

struct ChosenPoint {
  double recall = 0;                        // on the tokens it was chosen with
  double skipped = 0;                       // share of (token, neuron) pairs below the thresholds
  std::vector<float> predictor_thresholds;  // (d_ff): predicted where the score is above
};

// Makes the cheapest raise again and again, over all neurons of the layer, and keeps the thresholds
// at the moments when one more raise would take the recall below one of `recalls`. Skipping is thus
// stopped at shares s * sparsity with an s per recall. Returns one point per entry of `recalls`, in
// its order. REQUIRES: recalls ascending.
std::vector<ChosenPoint> ChoosePoints(const ScoredTokens& tokens, NeuronRaises raises,
                                      std::span<const double> recalls);

// Chooses points as ChoosePoints does, with one threshold for all neurons, among the scores that
// occur.
std::vector<ChosenPoint> ChooseSharedPoints(const ScoredTokens& tokens,
                                            std::span<const double> recalls);

}  // namespace thermocline
