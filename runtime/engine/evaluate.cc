#include "runtime/engine/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/scoped_batch_cuts.h"

namespace thermocline {
namespace {

// ln sum exp(logits), the largest taken out first.
double LogSumExp(std::span<const float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return most + std::log(sum);
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

class Evaluation {
 public:
  Evaluation(Engine& engine, const PerplexityOptions& options)
      : engine_(engine),
        vocab_(static_cast<size_t>(engine.config().vocab_size)),
        batch_(static_cast<size_t>(engine.model().executor_options().max_tokens)),
        compare_(options.compare_to_dense),
        mode_(options.mode.value_or(engine.model().mode())) {}

  void Window(std::span<const int32_t> targets) {
    std::vector<int32_t> inputs;
    if (engine_.tokenizer().bos_id() >= 0) inputs.push_back(engine_.tokenizer().bos_id());
    inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
    // Without a BOS the window's first token has nothing to be predicted from.
    const size_t first = targets.size() - inputs.size();
    const ScopedBatchCuts cutting(engine_.executor().cuts());
    if (compare_) {
      engine_.executor().set_mode(SparseMode::kDense);
      Run(inputs, [&](size_t at, std::span<const float> logits) {
        dense_.resize(inputs.size() * vocab_);
        std::copy(logits.begin(), logits.end(), dense_.begin() + static_cast<int64_t>(at * vocab_));
      });
    }
    engine_.executor().set_mode(mode_);
    engine_.executor().ResetCounts();
    engine_.executor().set_audit(true);
    Run(inputs,
        [&](size_t at, std::span<const float> logits) { Score(targets[at + first], at, logits); });
    engine_.executor().set_audit(false);
    counts_.Add(engine_.executor().counts());
    engine_.executor().set_mode(engine_.model().mode());
  }

  PerplexityResult Result() const {
    PerplexityResult result;
    result.tokens = nll_.n;
    result.counts = counts_;
    result.nll_per_token = nll_.Mean();
    result.nll_std_error = nll_.StdError();
    result.perplexity = std::exp(nll_.Mean());
    if (compare_ && nll_.n > 0) {
      result.dense_nll_per_token = nll_.Mean() - difference_.Mean();
      result.mean_kl = kl_.Mean();
      result.top1_agreement = static_cast<double>(agreed_) / static_cast<double>(nll_.n);
      result.ratio_std_error = std::exp(difference_.Mean()) * difference_.StdError();
    }
    return result;
  }

 private:
  template <typename Receive>
  void Run(std::span<const int32_t> inputs, const Receive& receive) {
    engine_.Reset();
    for (size_t begin = 0; begin < inputs.size(); begin += batch_) {
      ThrowIfInterrupted();
      const auto part = inputs.subspan(begin, std::min(batch_, inputs.size() - begin));
      const auto logits = engine_.EvaluateAll(part);
      for (size_t i = 0; i < part.size(); ++i)
        receive(begin + i, logits.subspan(i * vocab_, vocab_));
    }
  }

  void Score(int32_t target, size_t at, std::span<const float> logits) {
    const double nll = NegativeLogLikelihood(logits, target);
    nll_.Add(nll);
    if (!compare_) return;
    const std::span<const float> dense(dense_.data() + at * vocab_, vocab_);
    difference_.Add(nll - NegativeLogLikelihood(dense, target));
    kl_.Add(KlDivergence(dense, logits));
    agreed_ += FindBest(dense).id == FindBest(logits).id ? 1 : 0;
  }

  Engine& engine_;
  size_t vocab_;
  size_t batch_;
  bool compare_;
  SparseMode mode_;
  std::vector<float> dense_;  // (inputs of the window, vocab_size)
  Moments nll_;
  Moments difference_;  // nll - dense nll, per token
  Moments kl_;
  int64_t agreed_ = 0;
  FfnCounts counts_;
};

}  // namespace

double NegativeLogLikelihood(std::span<const float> logits, int32_t id) {
  return LogSumExp(logits) - static_cast<double>(logits[static_cast<size_t>(id)]);
}

double KlDivergence(std::span<const float> p_logits, std::span<const float> q_logits) {
  const double p_norm = LogSumExp(p_logits);
  const double q_norm = LogSumExp(q_logits);
  double kl = 0;
  for (size_t i = 0; i < p_logits.size(); ++i) {
    const double log_p = static_cast<double>(p_logits[i]) - p_norm;
    const double log_q = static_cast<double>(q_logits[i]) - q_norm;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return kl;
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
  Evaluation evaluation(engine, options);
  for (int64_t w = 0; w < n_windows; ++w) {
    Report(options.progress, "scoring windows", static_cast<uint64_t>(w),
           static_cast<uint64_t>(n_windows));
    const int64_t begin = w * window;
    evaluation.Window(
        ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(window, n - begin))));
  }
  Report(options.progress, "scoring windows", static_cast<uint64_t>(n_windows),
         static_cast<uint64_t>(n_windows));
  PerplexityResult result = evaluation.Result();
  result.windows = n_windows;
  return result;
}

}  // namespace thermocline
