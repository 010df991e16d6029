#include "runtime/engine/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/scoped_batch_cuts.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

// ln sum exp(logits), the largest taken out first.
double LogSumExp(std::span<const float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return most + std::log(sum);
}

// KL(softmax(p) || softmax(q)), of which the norms are known.
double Divergence(std::span<const float> p_logits, double p_norm, std::span<const float> q_logits,
                  double q_norm) {
  double kl = 0;
  for (size_t i = 0; i < p_logits.size(); ++i) {
    const double log_p = static_cast<double>(p_logits[i]) - p_norm;
    const double log_q = static_cast<double>(q_logits[i]) - q_norm;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return kl;
}

struct Moments {
  double sum = 0;
  double squares = 0;
  int64_t n = 0;
  void Add(double value) {
    sum += value;
    squares += value * value;
    ++n;
  }
  double Mean() const { return n == 0 ? 0 : sum / static_cast<double>(n); }
  double StdError() const {
    if (n < 2) return 0;
    const auto count = static_cast<double>(n);
    const double variance = (squares - sum * sum / count) / (count - 1);
    return std::sqrt(std::max(0.0, variance) / count);
  }
};

// What is found of one token.
struct TokenScore {
  double nll = 0;
  double dense_nll = 0;
  double kl = 0;
  bool agrees = false;
};

// What one way of running has shown so far.
struct Tally {
  Moments nll;
  Moments difference;  // nll - dense nll, per token
  Moments kl;
  int64_t agreed = 0;
  FfnCounts counts;

  void Add(const TokenScore& score, bool compared) {
    nll.Add(score.nll);
    if (!compared) return;
    difference.Add(score.nll - score.dense_nll);
    kl.Add(score.kl);
    agreed += score.agrees ? 1 : 0;
  }
  PerplexityResult Result(bool compared) const {
    PerplexityResult result;
    result.tokens = nll.n;
    result.counts = counts;
    result.nll_per_token = nll.Mean();
    result.nll_std_error = nll.StdError();
    result.perplexity = std::exp(nll.Mean());
    if (compared && nll.n > 0) {
      result.dense_nll_per_token = nll.Mean() - difference.Mean();
      result.mean_kl = kl.Mean();
      result.top1_agreement = static_cast<double>(agreed) / static_cast<double>(nll.n);
      result.ratio_std_error = std::exp(difference.Mean()) * difference.StdError();
    }
    return result;
  }
};

class Evaluation {
 public:
  Evaluation(Engine& engine, const PerplexityOptions& options, size_t n_ways,
             const std::function<void(size_t)>& choose)
      : engine_(engine),
        vocab_(static_cast<size_t>(engine.config().vocab_size)),
        batch_(static_cast<size_t>(engine.model().executor_options().max_tokens)),
        compare_(options.compare_to_dense),
        mode_(options.mode.value_or(engine.model().mode())),
        choose_(choose),
        tallies_(n_ways) {}

  void Window(std::span<const int32_t> targets) {
    std::vector<int32_t> inputs;
    if (engine_.tokenizer().bos_id() >= 0) inputs.push_back(engine_.tokenizer().bos_id());
    inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
    // Without a BOS the window's first token has nothing to be predicted from.
    const size_t first = targets.size() - inputs.size();
    const ScopedBatchCuts cutting(engine_.executor().cuts());
    if (compare_) {
      engine_.executor().set_mode(SparseMode::kDense);
      dense_.resize(inputs.size() * vocab_);
      dense_sums_.resize(inputs.size());
      Run(inputs, [&](size_t at, std::span<const float> logits) {
        std::ranges::copy(logits, dense_.begin() + static_cast<int64_t>(at * vocab_));
        dense_sums_[at] = LogSumExp(logits);
      });
    }
    scores_.resize(inputs.size());
    for (size_t way = 0; way < tallies_.size(); ++way) {
      choose_(way);
      engine_.executor().set_mode(mode_);
      engine_.executor().ResetCounts();
      engine_.executor().set_audit(true);
      Run(inputs, [&](size_t at, std::span<const float> logits) {
        scores_[at] = Score(targets[at + first], at, logits);
      });
      engine_.executor().set_audit(false);
      tallies_[way].counts.Add(engine_.executor().counts());
      for (const TokenScore& score : scores_) tallies_[way].Add(score, compare_);
    }
    engine_.executor().set_mode(engine_.model().mode());
  }

  std::vector<PerplexityResult> Results() const {
    std::vector<PerplexityResult> results;
    for (const Tally& tally : tallies_) results.push_back(tally.Result(compare_));
    return results;
  }

 private:
  // Threads share a batch's logits out: sums over a vocabulary take as long as a layer does.
  template <typename Receive>
  void Run(std::span<const int32_t> inputs, const Receive& receive) {
    engine_.Reset();
    for (size_t begin = 0; begin < inputs.size(); begin += batch_) {
      ThrowIfInterrupted();
      const auto part = inputs.subspan(begin, std::min(batch_, inputs.size() - begin));
      const auto logits = engine_.EvaluateAll(part);
      ParallelFor(static_cast<int64_t>(part.size()), 1, engine_.model().n_threads(),
                  [&](int /*thread*/, int64_t from, int64_t to) {
                    for (auto i = static_cast<size_t>(from); i < static_cast<size_t>(to); ++i) {
                      receive(begin + i, logits.subspan(i * vocab_, vocab_));
                    }
                  });
    }
  }

  TokenScore Score(int32_t target, size_t at, std::span<const float> logits) const {
    const auto id = static_cast<size_t>(target);
    const double sum = LogSumExp(logits);
    TokenScore score{.nll = sum - static_cast<double>(logits[id])};
    if (!compare_) return score;
    const std::span<const float> dense(dense_.data() + at * vocab_, vocab_);
    score.dense_nll = dense_sums_[at] - static_cast<double>(dense[id]);
    score.kl = Divergence(dense, dense_sums_[at], logits, sum);
    score.agrees = FindBest(dense).id == FindBest(logits).id;
    return score;
  }

  Engine& engine_;
  size_t vocab_;
  size_t batch_;
  bool compare_;
  SparseMode mode_;
  const std::function<void(size_t)>& choose_;
  std::vector<Tally> tallies_;
  std::vector<float> dense_;        // (inputs of the window, vocab_size)
  std::vector<double> dense_sums_;  // (inputs) their LogSumExp
  std::vector<TokenScore> scores_;  // (inputs)
};

}  // namespace

double NegativeLogLikelihood(std::span<const float> logits, int32_t id) {
  return LogSumExp(logits) - static_cast<double>(logits[static_cast<size_t>(id)]);
}

double KlDivergence(std::span<const float> p_logits, std::span<const float> q_logits) {
  return Divergence(p_logits, LogSumExp(p_logits), q_logits, LogSumExp(q_logits));
}

BestToken FindBest(std::span<const float> logits) {
  BestToken best;
  float first = -std::numeric_limits<float>::infinity();
  float second = first;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > first) {
      second = first;
      first = logits[i];
      best.id = static_cast<int32_t>(i);
    } else {
      second = std::max(second, logits[i]);
    }
  }
  best.margin = first - second;
  return best;
}

PerplexityResult EvaluatePerplexity(Engine& engine, std::span<const int32_t> ids,
                                    const PerplexityOptions& options) {
  return EvaluateWays(engine, ids, options, 1, [](size_t /*way*/) {}).front();
}

std::vector<PerplexityResult> EvaluateWays(Engine& engine, std::span<const int32_t> ids,
                                           const PerplexityOptions& options, size_t n_ways,
                                           const std::function<void(size_t)>& choose) {
  const int64_t room = engine.context_tokens();
  const int64_t window = options.window_tokens > 0 ? options.window_tokens : room - 1;
  if (window < 1 || window > room) {
    throw Error({.what = "window size",
                 .expected = fmt::format("1 to {} tokens (the context)", room),
                 .found = std::to_string(window),
                 .hint = "raise the context size, or score fewer tokens per window",
                 .settings = {{Setting::kContextSize}}});
  }
  if (ids.size() < 2) {
    throw Error({.what = "the text is too short",
                 .expected = "at least 2 tokens",
                 .found = std::to_string(ids.size())});
  }
  const auto n = static_cast<int64_t>(ids.size());
  int64_t n_windows = (n + window - 1) / window;
  if (options.max_windows > 0) n_windows = std::min(n_windows, options.max_windows);
  Evaluation evaluation(engine, options, n_ways, choose);
  for (int64_t w = 0; w < n_windows; ++w) {
    Report(options.progress, "scoring windows", static_cast<uint64_t>(w),
           static_cast<uint64_t>(n_windows));
    const int64_t begin = w * window;
    evaluation.Window(
        ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(window, n - begin))));
  }
  Report(options.progress, "scoring windows", static_cast<uint64_t>(n_windows),
         static_cast<uint64_t>(n_windows));
  std::vector<PerplexityResult> results = evaluation.Results();
  for (PerplexityResult& result : results) result.windows = n_windows;
  return results;
}

}  // namespace thermocline
