#include "runtime/drafts/hot_draft.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

// Of the best logits, enough to know how certain the best one is.
constexpr int64_t kBestForHotCertainty = 8;

const DraftFile& DraftOf(const OpenedModel& model) {
  CHECK(model.draft() != nullptr);
  return *model.draft();
}

// Has sequences end where they ended before, whatever happens in between.
class RolledBack {
 public:
  explicit RolledBack(KvSequences& sequences) : sequences_(sequences) {}
  ~RolledBack() {
    for (const auto& [sequence, length] : lengths_) {
      if (sequences_.length(sequence) > length) sequences_.Truncate(sequence, length);
    }
  }
  RolledBack(const RolledBack&) = delete;
  RolledBack& operator=(const RolledBack&) = delete;
  void Keep(int32_t sequence) { lengths_.emplace_back(sequence, sequences_.length(sequence)); }

 private:
  KvSequences& sequences_;
  std::vector<std::pair<int32_t, int64_t>> lengths_;
};

}  // namespace

HotDraft::HotDraft(Engine& engine) : engine_(engine), pass_(engine, DraftOf(engine.model())) {}

// A sequence that holds the pages it reserves, and a pass that does not fail, are worth more than a
// draft.
bool HotDraft::HasRoom(std::span<const Running> running) const {
  const KvSequences& kv = engine_.sequences();
  for (size_t c = 0; c < kv.n_classes(); ++c) {
    int64_t n_pages = 0;
    for (const Running& text : running) n_pages += kv.PagesNeeded(text.sequence, 1, c);
    if (n_pages > kv.pool(c).n_free()) return false;
  }
  return static_cast<int64_t>(running.size()) <= engine_.model().options().n_sequences;
}

int64_t HotDraft::BestNeeded(std::span<const Running> running) const {
  int64_t most = kBestForHotCertainty;
  for (const Running& text : running) {
    const int64_t n = text.tree->n_deciding();
    if (n == 0) return 0;
    most = std::max(most, n);
  }
  return most > pass_.max_best() ? 0 : most;
}

void HotDraft::Step(std::span<Running> running) {
  std::vector<SequenceInput> inputs;
  for (const Running& text : running) {
    inputs.push_back({.sequence = text.sequence, .ids = {&text.next, 1}});
  }
  const auto take = [](Running& text, const NextLogits& logits) {
    text.at = text.tree->AddFrom(text.at, logits);
    if (text.at >= 0) text.next = text.tree->nodes()[static_cast<size_t>(text.at)].token;
  };
  if (const int64_t n_best = BestNeeded(running)) {
    const auto best = pass_.FeedBest(inputs, n_best);
    for (size_t i = 0; i < running.size(); ++i) {
      take(running[i], {.best = best[i], .n_best = n_best});
    }
    return;
  }
  const auto width = static_cast<size_t>(engine_.config().vocab_size);
  const auto logits = pass_.Feed(inputs);
  for (size_t i = 0; i < running.size(); ++i) {
    take(running[i], {.all = logits.subspan(i * width, width)});
  }
}

void HotDraft::Draft(std::span<const DraftRequest> requests) {
  KvSequences& kv = engine_.sequences();
  RolledBack rolled_back(kv);
  std::vector<Running> running;
  for (const DraftRequest& request : requests) {
    const bool there = request.sequence >= 0 && !request.ids.empty() &&
                       kv.length(request.sequence) + 1 == static_cast<int64_t>(request.ids.size());
    if (!there || !request.tree->WantsMore(DraftTree::kText)) continue;
    rolled_back.Keep(request.sequence);
    running.push_back(
        {.tree = request.tree, .sequence = request.sequence, .next = request.ids.back()});
  }
  const auto is_done = [&](const Running& text) {
    return text.at == DraftTree::kNothing || !text.tree->WantsMore(text.at) ||
           kv.length(text.sequence) >= engine_.context_tokens();
  };
  std::erase_if(running, is_done);
  while (!running.empty() && HasRoom(running) && !InterruptRequested()) {
    Step(running);
    std::erase_if(running, is_done);
  }
}

}  // namespace thermocline
