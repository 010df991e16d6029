#include "runtime/drafts/hot_draft.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

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
bool HotDraft::HasRoom(std::span<const SequenceInput> inputs) const {
  const KvSequences& kv = engine_.sequences();
  for (size_t c = 0; c < kv.n_classes(); ++c) {
    int64_t n_pages = 0;
    for (const SequenceInput& input : inputs) {
      n_pages += kv.PagesNeeded(input.sequence, std::ssize(input.ids), c);
    }
    if (n_pages > kv.pool(c).n_free()) return false;
  }
  return true;
}

bool HotDraft::Run(GrowthPass& pass) {
  if (pass.inputs().empty() || !HasRoom(pass.inputs())) return false;
  pass.Run(engine_, pass_.executor());
  ++n_passes_;
  return true;
}

bool HotDraft::ReadTexts(std::span<Running> running) {
  GrowthPass pass;
  for (Running& text : running) pass.AddText(&text.growth, text.sequence, {&text.next, 1});
  return Run(pass);
}

bool HotDraft::GrowTrees(std::span<Running> running) {
  const int64_t share = engine_.model().max_sampled_rows() / std::ssize(running);
  GrowthPass pass;
  for (Running& text : running) {
    const int64_t room = engine_.context_tokens() - engine_.sequences().length(text.sequence);
    pass.Add(&text.growth, text.sequence, text.tree_begin, std::min(share, room));
  }
  return Run(pass);
}

void HotDraft::Draft(std::span<const DraftRequest> requests) {
  KvSequences& kv = engine_.sequences();
  RolledBack rolled_back(kv);
  std::vector<Running> running;
  for (const DraftRequest& request : requests) {
    const int64_t n_past = request.sequence < 0 ? -1 : kv.length(request.sequence);
    const bool there = n_past >= 0 && !request.ids.empty() && n_past < engine_.context_tokens() &&
                       n_past + 1 == static_cast<int64_t>(request.ids.size());
    if (!there || !request.tree->WantsPass(DraftTree::kText)) continue;
    rolled_back.Keep(request.sequence);
    running.push_back({.growth = DraftGrowth(request.tree),
                       .sequence = request.sequence,
                       .next = request.ids.back(),
                       .tree_begin = n_past + 1});
  }
  if (InterruptRequested() || !ReadTexts(running)) return;
  while (!InterruptRequested() && GrowTrees(running)) {
  }
}

}  // namespace thermocline
