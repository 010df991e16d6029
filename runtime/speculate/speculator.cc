#include "runtime/speculate/speculator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

constexpr int64_t kPlainEvery = 64;  // what one takes changes with the length of the text
// As often a text for which nothing seems worth drafting has a token drafted all the same: nothing
// else would show that it has become so.
constexpr int64_t kTryEvery = 64;
constexpr int64_t kDraftsToJudge = 10;
constexpr size_t kFirstPause = 32;
constexpr size_t kLongestPause = 512;
constexpr double kNewest = 0.2;  // the weight of the last time in what is kept of late ones
constexpr double kNewestDraft =
    0.08;  // and of the last draft: they are worth very different amounts
constexpr double kSurelyTried = 0.9;
// A source that takes less of a pass than this is asked whatever comes of it.
constexpr double kCheapShare = 0.01;

void Blend(double* mean, double value, double weight) { *mean += weight * (value - *mean); }

// How likely a token must be to be accepted, with all before it, to be worth drafting: at so many
// tokens per millisecond, its own time and that which its row adds to the pass. However dear it is,
// what is nearly certain is tried: that it does not pay is seen then.
double LeastChanceWorth(double tokens_per_ms, double draft_ms, double row_ms) {
  return std::min(kSurelyTried, tokens_per_ms * (draft_ms + std::max(0.0, row_ms)));
}

}  // namespace

SpeculateStats& SpeculateStats::operator+=(const SpeculateStats& other) {
  n_drafted += other.n_drafted;
  n_accepted += other.n_accepted;
  n_drafts += other.n_drafts;
  n_plain += other.n_plain;
  n_empty += other.n_empty;
  n_written += other.n_written;
  draft_ms += other.draft_ms;
  verify_ms += other.verify_ms;
  plain_ms += other.plain_ms;
  n_draft_passes += other.n_draft_passes;
  n_verify_passes += other.n_verify_passes;
  n_plain_passes += other.n_plain_passes;
  n_pauses += other.n_pauses;
  n_of_size.resize(std::max(n_of_size.size(), other.n_of_size.size()));
  for (size_t i = 0; i < other.n_of_size.size(); ++i) n_of_size[i] += other.n_of_size[i];
  return *this;
}

double SteadyMs() {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Speculator::Speculator(DraftSource& source, const SpeculateOptions& options, int64_t vocab_size,
                       MillisecondClock clock)
    : source_(source),
      options_(options),
      vocab_size_(vocab_size),
      clock_(std::move(clock)),
      random_(options.seed),
      ms_per_drafted_(source.cost().ms_per_token) {
  CHECK(options.max_tokens >= 1 && options.max_rows >= 1 && vocab_size >= 1);
  CHECK(options.max_children >= 1 && clock_ != nullptr);
}

Speculator::Text& Speculator::TextOf(int32_t text) {
  return texts_.try_emplace(text, &confidence_).first->second;
}

void Speculator::Forget(int32_t text) {
  texts_.erase(text);
  source_.Forget(text);
}

bool Speculator::IsTurn(const Text& text, const SpeculatedText& asked, int64_t n_texts) const {
  if (!stats_.failure.empty() || asked.most < 1 || asked.ids.empty()) return false;
  if (!options_.follows_times) return true;
  if (asked.ids.size() < text.pauses_until) return false;
  if (!times_.KnowsUpTo(n_texts)) return false;
  return text.n_turns % kPlainEvery != 0;
}

std::vector<double> Speculator::LeastChances(int64_t n_texts, int64_t n_tokens,
                                             double draft_ms) const {
  std::vector<double> least(static_cast<size_t>(n_tokens), options_.least_chance);
  if (!options_.follows_times) return least;
  const double plain_ms = times_.Of(n_texts);
  if (plain_ms <= 0) return least;
  const double tokens_per_ms = std::max(1.0, gain_) * static_cast<double>(n_texts) / plain_ms;
  for (int64_t n = 0; n < n_tokens; ++n) {
    const int64_t n_more = n_texts * (n + 1);
    const double row_ms = (times_.Of(n_texts + n_more) - plain_ms) / static_cast<double>(n_more);
    double& at = least[static_cast<size_t>(n)];
    at = std::max(at, LeastChanceWorth(tokens_per_ms, draft_ms, row_ms));
  }
  return least;
}

DraftTree Speculator::MakeTree(Text& text, const SpeculatedText& asked, int64_t n_texts,
                               int64_t most) {
  DraftLimits limits;
  limits.vocab_size = vocab_size_;
  limits.max_depth = limits.max_nodes = most;
  limits.max_children = options_.max_children;
  limits.draws = asked.draws;
  limits.seed = static_cast<uint64_t>(random_.Uniform() * 0x1p53);
  limits.ends_text = asked.ends_text;
  if (most > 0) {
    limits.least_chance = LeastChances(n_texts, most, ms_per_drafted_);
    limits.least_beside = LeastChances(n_texts, most, 0);
    if (text.n_turns % kTryEvery == kTryEvery / 2) limits.least_chance[0] = 0;
  }
  return {std::move(limits), *asked.sampler, asked.mask, text.confidence};
}

double Speculator::AskSource(std::span<const DraftRequest> requests) {
  if (requests.empty()) return 0;
  const int64_t n_before = source_.n_passes();
  const double started_ms = clock_();
  try {
    source_.Draft(requests);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& failure) {
    stats_.failure = failure.what();
  }
  stats_.n_draft_passes += source_.n_passes() - n_before;
  return clock_() - started_ms;
}

std::vector<DraftTree> Speculator::Draft(std::span<const SpeculatedText> texts) {
  const auto n_texts = static_cast<int64_t>(texts.size());
  std::vector<bool> is_asked;
  int64_t n_asked = 0;
  for (const SpeculatedText& asked : texts) {
    Text& text = TextOf(asked.text);
    ++text.n_turns;
    // A text that was cut, or another: what is left of a pause is no longer than the pause.
    if (asked.ids.size() < text.n_ids) {
      text.pauses_until = std::min(text.pauses_until, asked.ids.size() + text.pause_tokens);
    }
    text.n_ids = asked.ids.size();
    text.draft_ms = 0;
    is_asked.push_back(IsTurn(text, asked, n_texts));
    n_asked += is_asked.back() ? 1 : 0;
  }
  const int64_t share =
      std::min(options_.max_tokens, options_.max_rows / std::max<int64_t>(1, n_asked));
  std::vector<DraftTree> trees;
  std::vector<DraftRequest> requests;
  trees.reserve(texts.size());  // requests point into it
  for (size_t i = 0; i < texts.size(); ++i) {
    const SpeculatedText& asked = texts[i];
    const int64_t most = is_asked[i] ? std::min(asked.most, share) : 0;
    trees.push_back(MakeTree(TextOf(asked.text), asked, n_texts, most));
    if (most > 0) requests.push_back({asked.text, asked.ids, asked.sequence, &trees.back()});
  }
  const int64_t n_passes = stats_.n_draft_passes;
  const double ms = AskSource(requests);
  stats_.draft_ms += ms;
  last_ = {.n_texts = n_texts, .n_draft_passes = stats_.n_draft_passes - n_passes, .draft_ms = ms};
  for (const DraftTree& tree : trees) last_.n_drafted += static_cast<int64_t>(tree.nodes().size());
  ShareDraftTime(requests, ms);
  return trees;
}

// By tokens behind each other, as those beside one come with it; who got none has had one computed
// all the same. The first draft of a text is no measure: its source may have had to read all of it.
void Speculator::ShareDraftTime(std::span<const DraftRequest> requests, double ms) {
  const auto n_computed = [](const DraftRequest& request) {
    return static_cast<double>(std::max<int64_t>(1, request.tree->drafted_depth()));
  };
  double n_all = 0;
  // Of a source that runs a model, drafts without it are none either.
  bool is_measure = stats_.n_draft_passes == 0 || last_.n_draft_passes > 0;
  for (const DraftRequest& request : requests) {
    n_all += n_computed(request);
    is_measure = is_measure && TextOf(request.text).was_drafted;
  }
  if (is_measure && n_all > 0) {
    const double per_token = ms / n_all;
    Blend(&ms_per_drafted_,
          ms_per_drafted_ > 0 ? std::min(per_token, 4 * ms_per_drafted_) : per_token,
          ms_per_drafted_ > 0 ? kNewest : 1);
  }
  for (const DraftRequest& request : requests) {
    Text& text = TextOf(request.text);
    text.was_drafted = true;
    if (request.tree->empty()) ++stats_.n_empty;
    if (!is_measure) continue;
    text.draft_ms = ms * n_computed(request) / n_all;
    const bool is_cheap = text.draft_ms < kCheapShare * times_.Of(last_.n_texts);
    if (request.tree->empty() && !is_cheap) Judge(text, -text.draft_ms);
  }
}

void Speculator::MeasurePass(std::span<const DraftTree> trees, int64_t n_others, double ms) {
  const auto n_texts = static_cast<int64_t>(trees.size());
  last_.is_pure = n_others == 0;
  if (last_.is_pure) times_.Measure(n_texts + last_.n_drafted, ms);
  const bool verifies = last_.n_drafted > 0;
  (verifies ? stats_.verify_ms : stats_.plain_ms) += ms;
  ++(verifies ? stats_.n_verify_passes : stats_.n_plain_passes);
}

void Speculator::Verified(int32_t text, const DraftTree& tree, int32_t last, bool tested,
                          int64_t n_written) {
  stats_.n_written += n_written;
  if (tree.empty()) {
    ++stats_.n_plain;
    return;
  }
  Text& state = TextOf(text);
  const std::span<const DraftTree::Node> nodes = tree.nodes();
  tree.Teach(last, tested, &state.confidence);
  tree.Teach(last, tested, &confidence_);
  const int64_t n_accepted =
      last == DraftTree::kText ? 0 : nodes[static_cast<size_t>(last)].depth + 1;
  const auto n_drafted = static_cast<int64_t>(nodes.size());
  ++stats_.n_drafts;
  stats_.n_drafted += n_drafted;
  if (stats_.n_of_size.size() < nodes.size()) stats_.n_of_size.resize(nodes.size());
  ++stats_.n_of_size[nodes.size() - 1];
  stats_.n_accepted += n_accepted;
  const int64_t n_rows = last_.n_texts + last_.n_drafted;
  const double verify_ms = times_.Of(n_rows);
  source_.Accepted(text, n_accepted, verify_ms / static_cast<double>(last_.n_texts));
  const double plain_ms = times_.Of(last_.n_texts);
  if (!last_.is_pure || plain_ms <= 0 || n_written < 1) return;
  Blend(&gain_, static_cast<double>(n_written) * plain_ms / (verify_ms + last_.draft_ms),
        kNewestDraft);
  const double rows_ms = std::max(0.0, verify_ms - plain_ms) * static_cast<double>(n_drafted) /
                         static_cast<double>(last_.n_drafted);
  const double token_ms = plain_ms / static_cast<double>(last_.n_texts);
  Judge(state, static_cast<double>(n_written - 1) * token_ms - state.draft_ms - rows_ms);
}

void Speculator::Judge(Text& text, double saved_ms) {
  if (!options_.follows_times) return;
  Blend(&text.saved_ms, saved_ms, text.n_judged == 0 ? 1 : kNewestDraft);
  if (++text.n_judged < kDraftsToJudge) return;
  if (text.saved_ms > 0) {
    text.pause_tokens = 0;
    return;
  }
  text.pause_tokens = std::clamp(2 * text.pause_tokens, kFirstPause, kLongestPause);
  text.pauses_until = text.n_ids + text.pause_tokens;
  text.n_judged = 0;
  ++stats_.n_pauses;
}

}  // namespace thermocline
