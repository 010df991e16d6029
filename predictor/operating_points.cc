#include "predictor/operating_points.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kQuantiles = 256;
constexpr int kSharedBins = 4096;

struct TokenScore {
  float score;
  float part;
};

// Sums over the tokens whose score is at most `threshold`.
struct Step {
  int64_t n_skipped = 0;
  int64_t n_missed = 0;
  double lost = 0;
  float predictor_threshold = 0;
};

double CostPerSkip(const Step& from, const Step& to) {
  return (to.lost - from.lost) / static_cast<double>(to.n_skipped - from.n_skipped);
}

// Returns a threshold between two scores, so that rounding on the way to a comparison with 0
// changes nothing.
float Between(float low, float high) { return low + (high - low) / 2; }

// Returns a threshold below every score seen, by as much as they are spread.
float BelowAll(const std::vector<TokenScore>& sorted) {
  const float low = sorted.front().score;
  return low - std::max(sorted.back().score - low, std::abs(low) * 1e-3F + 1e-6F);
}

// Returns the ends of quantiles. Equal scores stay together.
std::vector<Step> StepsOf(const std::vector<TokenScore>& sorted) {
  const auto n = static_cast<int64_t>(sorted.size());
  std::vector<Step> steps(1);
  steps[0].predictor_threshold = BelowAll(sorted);
  Step sums = steps[0];
  int64_t quantile = 1;
  for (int64_t i = 0; i < n; ++i) {
    const TokenScore& token = sorted[static_cast<size_t>(i)];
    ++sums.n_skipped;
    sums.n_missed += token.part != 0 ? 1 : 0;
    sums.lost += static_cast<double>(token.part) * token.part;
    if (sums.n_skipped * kQuantiles < quantile * n) continue;
    const bool last = i + 1 == n;
    const float next = last ? token.score : sorted[static_cast<size_t>(i) + 1].score;
    if (!last && next == token.score) continue;
    sums.predictor_threshold = Between(token.score, next);
    if (!last && sums.predictor_threshold >= next) sums.predictor_threshold = token.score;
    steps.push_back(sums);
    quantile = sums.n_skipped * kQuantiles / n + 1;
  }
  return steps;
}

// The steps that lie on the lower convex hull of (tokens skipped, loss).
std::vector<Step> HullOf(const std::vector<Step>& steps) {
  std::vector<Step> hull;
  for (const Step& step : steps) {
    while (hull.size() > 1 &&
           CostPerSkip(hull[hull.size() - 2], hull.back()) >= CostPerSkip(hull.back(), step)) {
      hull.pop_back();
    }
    hull.push_back(step);
  }
  return hull;
}

int64_t CountActive(const ScoredTokens& tokens) {
  const int64_t n = tokens.n_tokens * tokens.d_ff;
  return n - std::count(tokens.parts, tokens.parts + n, 0.0F);
}

}  // namespace

NeuronRaises FindRaises(const ScoredTokens& tokens, int64_t begin, int64_t end) {
  CHECK(tokens.n_tokens > 0);
  NeuronRaises out;
  std::vector<TokenScore> sorted(static_cast<size_t>(tokens.n_tokens));
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t t = 0; t < tokens.n_tokens; ++t) {
      const int64_t at = t * tokens.d_ff + i;
      sorted[static_cast<size_t>(t)] = {tokens.scores[at], tokens.parts[at]};
    }
    std::sort(sorted.begin(), sorted.end(),
              [](const TokenScore& a, const TokenScore& b) { return a.score < b.score; });
    const std::vector<Step> hull = HullOf(StepsOf(sorted));
    out.lowest.push_back(hull[0].predictor_threshold);
    for (size_t k = 1; k < hull.size(); ++k) {
      out.raises.push_back(
          {.cost_per_skip = CostPerSkip(hull[k - 1], hull[k]),
           .neuron = static_cast<int32_t>(i),
           .n_skipped = static_cast<int32_t>(hull[k].n_skipped - hull[k - 1].n_skipped),
           .n_missed = static_cast<int32_t>(hull[k].n_missed - hull[k - 1].n_missed),
           .predictor_threshold = hull[k].predictor_threshold});
    }
  }
  return out;
}

std::vector<ChosenPoint> ChoosePoints(const ScoredTokens& tokens, NeuronRaises raises,
                                      std::span<const double> recalls) {
  CHECK(static_cast<int64_t>(raises.lowest.size()) == tokens.d_ff);
  std::stable_sort(raises.raises.begin(), raises.raises.end(),
                   [](const ThresholdRaise& a, const ThresholdRaise& b) {
                     return a.cost_per_skip < b.cost_per_skip;
                   });
  const auto n_active = static_cast<double>(std::max<int64_t>(1, CountActive(tokens)));
  const auto n_pairs = static_cast<double>(tokens.n_tokens * tokens.d_ff);
  std::vector<ChosenPoint> points(recalls.size());
  std::vector<float> thresholds = std::move(raises.lowest);
  int64_t n_skipped = 0;
  int64_t n_missed = 0;
  size_t next = recalls.size();  // recalls are left from the highest on
  const auto keep = [&] {
    points[--next] = {1 - static_cast<double>(n_missed) / n_active,
                      static_cast<double>(n_skipped) / n_pairs, thresholds};
  };
  for (const ThresholdRaise& raise : raises.raises) {
    const double recall = 1 - static_cast<double>(n_missed + raise.n_missed) / n_active;
    while (next > 0 && recall < recalls[next - 1]) keep();
    if (next == 0) break;
    thresholds[static_cast<size_t>(raise.neuron)] = raise.predictor_threshold;
    n_skipped += raise.n_skipped;
    n_missed += raise.n_missed;
  }
  while (next > 0) keep();
  return points;
}

std::vector<ChosenPoint> ChooseSharedPoints(const ScoredTokens& tokens,
                                            std::span<const double> recalls) {
  struct Bin {
    int64_t n_tokens = 0;
    int64_t n_active = 0;
    float highest = 0;
  };
  const int64_t n_pairs = tokens.n_tokens * tokens.d_ff;
  const auto [low, high] = std::minmax_element(tokens.scores, tokens.scores + n_pairs);
  const double width = std::max(static_cast<double>(*high) - *low, 1e-9) / kSharedBins;
  std::vector<Bin> bins(kSharedBins + 1);
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float score = tokens.scores[i];
    Bin& bin = bins[static_cast<size_t>((static_cast<double>(score) - *low) / width)];
    bin.highest = bin.n_tokens == 0 ? score : std::max(bin.highest, score);
    ++bin.n_tokens;
    bin.n_active += tokens.parts[i] != 0 ? 1 : 0;
  }
  const auto n_active = static_cast<double>(std::max<int64_t>(1, CountActive(tokens)));
  std::vector<ChosenPoint> points(recalls.size());
  int64_t n_skipped = 0;
  int64_t n_missed = 0;
  size_t next = recalls.size();
  float threshold = *low - 1;
  const auto keep = [&] {
    points[--next] = {1 - static_cast<double>(n_missed) / n_active,
                      static_cast<double>(n_skipped) / static_cast<double>(n_pairs),
                      std::vector<float>(static_cast<size_t>(tokens.d_ff), threshold)};
  };
  for (const Bin& bin : bins) {
    if (bin.n_tokens == 0) continue;
    const double recall = 1 - static_cast<double>(n_missed + bin.n_active) / n_active;
    while (next > 0 && recall < recalls[next - 1]) keep();
    if (next == 0) break;
    threshold = bin.highest;
    n_skipped += bin.n_tokens;
    n_missed += bin.n_active;
  }
  while (next > 0) keep();
  return points;
}

}  // namespace thermocline
