// How good a run is: perplexity over a text, every token counted, and how far a mode's predictions
// are from those of the dense run on the same weights (KL divergence, agreement of the best token).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {

struct PerplexityOptions {
  int64_t window_tokens = 0;  // scored per window; 0: the context less one (BOS stands in front)
  int64_t max_windows = 0;    // 0: all, the last one shorter
  bool compare_to_dense = false;
  // The mode to score; nullopt: the model's. In kThreshold the rows of batches are cut, too, but
  // those at a text's first kUncutPositions.
  std::optional<SparseMode> mode = {};
  ProgressFn progress;
};

struct PerplexityResult {
  int64_t tokens = 0;
  int64_t windows = 0;
  double nll_per_token = 0;  // mean of -ln p(token | its window so far)
  double nll_std_error = 0;  // of that mean, tokens taken as independent
  double perplexity = 0;     // exp(nll_per_token)
  // Against the dense run, where it was asked for:
  double dense_nll_per_token = 0;
  double mean_kl = 0;          // mean over tokens of KL(dense || mode), nats
  double top1_agreement = 0;   // share of tokens where both rank the same token first
  double ratio_std_error = 0;  // of perplexity / dense perplexity, from the paired differences
  // What the mode computed of each layer, over the tokens whose neurons could be skipped; with a
  // predictor also what it missed.
  FfnCounts counts;
};

// ids: the text's tokens without BOS, cut in windows; each window is fed behind BOS (where the
// vocabulary has one) and each of its tokens is scored. Throws Error when there are fewer than two
// tokens. REQUIRES: engine opened with all_logits. Leaves the engine's mode as it was.
PerplexityResult EvaluatePerplexity(Engine& engine, std::span<const int32_t> ids,
                                    const PerplexityOptions& options);

// Scores n_ways of running over the same windows, so that of each window the dense run is made once
// for all. choose(way) is called before a way runs over a window, while the engine is idle; with
// options.mode it has that mode. Returns what EvaluatePerplexity would of each. REQUIRES as above.
std::vector<PerplexityResult> EvaluateWays(Engine& engine, std::span<const int32_t> ids,
                                           const PerplexityOptions& options, size_t n_ways,
                                           const std::function<void(size_t way)>& choose);

// -ln softmax(logits)[id], in double.
double NegativeLogLikelihood(std::span<const float> logits, int32_t id);
// KL(softmax(p) || softmax(q)) in nats.
double KlDivergence(std::span<const float> p_logits, std::span<const float> q_logits);
// The best token (lowest id of equals) and its lead over the second.
struct BestToken {
  int32_t id = 0;
  float margin = 0;
};
BestToken FindBest(std::span<const float> logits);

}  // namespace thermocline
