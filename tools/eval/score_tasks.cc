#include "tools/eval/score_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"
#include "runtime/engine/scoped_batch_cuts.h"

namespace thermocline {
namespace {

// Scores continuations; what a text has in common with the one before is kept.
class Scorer {
 public:
  explicit Scorer(Engine& engine)
      : engine_(engine),
        vocab_(static_cast<size_t>(engine.config().vocab_size)),
        batch_(static_cast<size_t>(engine.model().batch_tokens())) {
    engine_.Reset();
  }

  struct Choice {
    double nll = 0;
    int64_t tokens = 0;
    bool greedy = true;  // each token is the likeliest
  };

  Choice Score(const std::string& context, const std::string& continuation) {
    const size_t n_context = std::max<size_t>(1, TokensOf(context).size());
    const std::vector<int32_t> ids = TokensOf(context + continuation);
    const size_t first = std::min(n_context, ids.size() - 1);  // of the continuation
    if (ids.size() < 2 || ids.size() > static_cast<size_t>(engine_.context_tokens())) {
      throw Error({.what = "a task's text",
                   .expected = fmt::format("2 to {} tokens", engine_.context_tokens()),
                   .found = std::to_string(ids.size()),
                   .hint = "raise the context size",
                   .settings = {{Setting::kContextSize}}});
    }
    KeepCommon(ids, first - 1);
    Choice choice;
    for (size_t at = fed_.size(); at + 1 < ids.size();) {
      const size_t n = std::min(batch_, ids.size() - 1 - at);
      const auto part = std::span(ids).subspan(at, n);
      const auto logits = engine_.EvaluateAll(part);
      for (size_t i = 0; i < n; ++i) {
        if (at + i + 1 < first) continue;
        Add(logits.subspan(i * vocab_, vocab_), ids[at + i + 1], &choice);
      }
      fed_.insert(fed_.end(), part.begin(), part.end());
      at += n;
    }
    return choice;
  }

 private:
  std::vector<int32_t> TokensOf(const std::string& text) const {
    const Tokenizer& tokenizer = engine_.tokenizer();
    std::vector<int32_t> ids;
    if (tokenizer.bos_id() >= 0 && tokenizer.add_bos()) ids.push_back(tokenizer.bos_id());
    const auto encoded = tokenizer.Encode(text);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    return ids;
  }

  // Keeps at most `most` tokens that were fed already.
  void KeepCommon(const std::vector<int32_t>& ids, size_t most) {
    const auto [a, b] = std::mismatch(fed_.begin(), fed_.end(), ids.begin(), ids.end());
    const auto common = std::min(static_cast<size_t>(a - fed_.begin()), most);
    const int64_t kept = engine_.KeepableTokens(static_cast<int64_t>(common));
    engine_.Truncate(kept);
    fed_.resize(static_cast<size_t>(kept));
  }

  static void Add(std::span<const float> logits, int32_t id, Choice* choice) {
    choice->nll += NegativeLogLikelihood(logits, id);
    choice->greedy = choice->greedy && FindBest(logits).id == id;
    ++choice->tokens;
  }

  Engine& engine_;
  size_t vocab_;
  size_t batch_;
  std::vector<int32_t> fed_;
};

ItemScore ScoreItem(Scorer& scorer, const EvalItem& item) {
  ItemScore score;
  double best = INFINITY;
  double best_norm = INFINITY;
  for (size_t i = 0; i < item.choices.size(); ++i) {
    const Scorer::Choice choice = scorer.Score(item.context, item.choices[i]);
    const double norm = choice.nll / static_cast<double>(item.choices[i].size());
    const bool answer = i == item.answer;
    if (choice.nll < best) score.right = answer;
    if (norm < best_norm) score.right_norm = answer;
    best = std::min(best, choice.nll);
    best_norm = std::min(best_norm, norm);
    if (!answer) continue;
    score.nll = choice.nll;
    score.tokens = choice.tokens;
    if (item.choices.size() == 1) score.right = score.right_norm = choice.greedy;
  }
  if (item.choices.size() == 1) score.right_norm = score.right;
  return score;
}

}  // namespace

std::vector<ItemScore> ScoreItems(Engine& engine, const std::vector<EvalItem>& items,
                                  SparseMode mode, const ProgressFn& progress) {
  const ScopedBatchCuts cutting(engine.executor().cuts());
  engine.executor().set_mode(mode);
  Scorer scorer(engine);
  std::vector<ItemScore> scores;
  const std::string label = fmt::format("scoring tasks, {}", SparseModeName(mode));
  for (const EvalItem& item : items) {
    Report(progress, label, scores.size(), items.size());
    ThrowIfInterrupted();
    scores.push_back(ScoreItem(scorer, item));
  }
  Report(progress, label, items.size(), items.size());
  engine.executor().set_mode(engine.model().mode());
  engine.Reset();
  return scores;
}

ScoredShare ShareRight(int64_t n_right, int64_t n) {
  if (n == 0) return {};
  constexpr double kZ = 1.959963984540054;
  const auto count = static_cast<double>(n);
  const double share = static_cast<double>(n_right) / count;
  const double scale = 1 + kZ * kZ / count;
  const double middle = (share + kZ * kZ / (2 * count)) / scale;
  const double half =
      kZ / scale * std::sqrt(share * (1 - share) / count + kZ * kZ / (4 * count * count));
  return {share, std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

PairedDifference Compare(const std::vector<ItemScore>& first, const std::vector<ItemScore>& second,
                         bool ItemScore::*right) {
  CHECK(first.size() == second.size());
  PairedDifference difference;
  for (size_t i = 0; i < first.size(); ++i) {
    difference.gained += !(first[i].*right) && second[i].*right ? 1 : 0;
    difference.lost += first[i].*right && !(second[i].*right) ? 1 : 0;
  }
  const auto n = static_cast<double>(first.size());
  const auto changed = static_cast<double>(difference.gained + difference.lost);
  difference.mean = static_cast<double>(difference.gained - difference.lost) / n;
  if (n > 1) {
    const double variance = (changed - n * difference.mean * difference.mean) / (n - 1);
    difference.std_error = std::sqrt(std::max(0.0, variance) / n);
  }
  return difference;
}

}  // namespace thermocline
