#include "runtime/drafts/auto_draft.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kDraftsToKnow = 3;   // of a source, before it is judged
constexpr int64_t kTurnsToRetry = 24;  // the others get one, since texts change
constexpr double kLatest = 0.2;

}  // namespace

AutoDraft::AutoDraft(std::vector<DraftSource*> sources, MillisecondClock clock)
    : sources_(std::move(sources)), clock_(std::move(clock)) {
  CHECK(clock_ != nullptr);
  CHECK(!sources_.empty() && sources_.size() <= static_cast<size_t>(Confidence::kMaxSources));
}

std::string AutoDraft::name() const {
  std::string name = "auto (";
  for (size_t i = 0; i < sources_.size(); ++i) name += (i > 0 ? ", " : "") + sources_[i]->name();
  return name + ")";
}

DraftCost AutoDraft::cost() const { return sources_.front()->cost(); }

int64_t AutoDraft::n_passes() const {
  int64_t n = 0;
  for (const DraftSource* const source : sources_) n += source->n_passes();
  return n;
}

AutoDraft::Text& AutoDraft::TextOf(int32_t text) {
  Text& found = texts_[text];
  found.records.resize(sources_.size());
  return found;
}

void AutoDraft::Forget(int32_t text) {
  texts_.erase(text);
  for (DraftSource* const source : sources_) source->Forget(text);
}

std::vector<size_t> AutoDraft::Ranking(Text& text) const {
  std::vector<size_t> ranking(sources_.size());
  std::iota(ranking.begin(), ranking.end(), 0);
  const auto is_known = [&](size_t i) { return text.records[i].n_drafts >= kDraftsToKnow; };
  std::ranges::stable_sort(ranking, [&](size_t a, size_t b) {
    if (is_known(a) != is_known(b)) return is_known(b);
    return is_known(a) && text.records[a].tokens_per_ms > text.records[b].tokens_per_ms;
  });
  if (++text.n_turns % kTurnsToRetry == 0) {
    std::rotate(ranking.begin(), ranking.begin() + 1, ranking.end());
  }
  return ranking;
}

void AutoDraft::Draft(std::span<const DraftRequest> requests) {
  std::vector<std::vector<size_t>> rankings;
  for (const DraftRequest& request : requests) {
    Text& text = TextOf(request.text);
    text.draft_ms = 0;
    rankings.push_back(Ranking(text));
  }
  for (size_t place = 0; place < sources_.size(); ++place) {
    for (size_t s = 0; s < sources_.size(); ++s) {
      std::vector<DraftRequest> asked;
      for (size_t i = 0; i < requests.size(); ++i) {
        if (rankings[i][place] != s || !requests[i].tree->empty()) continue;
        requests[i].tree->set_source(static_cast<int32_t>(s));
        asked.push_back(requests[i]);
      }
      if (asked.empty()) continue;
      const double started_ms = clock_();
      sources_[s]->Draft(asked);
      const double ms = (clock_() - started_ms) / static_cast<double>(asked.size());
      for (const DraftRequest& request : asked) {
        Text& text = TextOf(request.text);
        text.source = s;
        text.draft_ms += ms;
      }
    }
  }
}

void AutoDraft::Accepted(int32_t text, int64_t n_accepted, double verify_ms) {
  Text& of_text = TextOf(text);
  sources_[of_text.source]->Accepted(text, n_accepted, verify_ms);
  Record& record = of_text.records[of_text.source];
  const double ms = of_text.draft_ms + verify_ms;
  if (ms <= 0) return;
  const double rate = static_cast<double>(n_accepted + 1) / ms;
  record.tokens_per_ms += (record.n_drafts == 0 ? 1 : kLatest) * (rate - record.tokens_per_ms);
  ++record.n_drafts;
}

}  // namespace thermocline
