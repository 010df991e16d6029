// Drafts by another, smaller model of the same vocabulary.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/growth_pass.h"
#include "runtime/speculate/draft_growth.h"
#include "runtime/speculate/draft_source.h"

namespace thermocline {

// Throws Error where a token means something else to the two; one of them may have a few more at
// the end, which fill it up to a round number.
void CheckSameVocabulary(OpenedModel& draft, OpenedModel& model);

class ModelDraft : public DraftSource {
 public:
  // What the draft's model is opened with to go with another that is opened with `model`: the same
  // threads, sequences and kind of fast tier. The context is the caller's to set.
  static EngineOptions OptionsFor(const EngineOptions& model, const std::string& draft_path);
  // Takes the engine over: all its sequences are the drafts'.
  explicit ModelDraft(std::unique_ptr<Engine> engine);

  std::string name() const override { return "model"; }
  int64_t n_passes() const override { return n_passes_; }
  // A token of each text per pass, or what of its tree is about as likely (DraftGrowth). What the
  // draft's model has not read of a text comes first.
  void Draft(std::span<const DraftRequest> requests) override;
  const Engine& engine() const { return *engine_; }

 private:
  struct Text {
    int32_t sequence = -1;
    std::vector<int32_t> ids;  // that the sequence has
    // And behind them of the last draft's tree (DraftGrowth::read, parents).
    std::vector<int32_t> tree_ids;
    std::vector<int32_t> tree_parents;
  };
  // A text of the requests, while it is drafted for.
  struct Running {
    DraftGrowth growth;
    Text* text = nullptr;
    std::vector<int32_t> unread;  // of the text, not of the tree
  };

  bool CanRead(std::span<const int32_t> ids) const;
  std::vector<int32_t> TakeUp(Text& text, std::span<const int32_t> ids);
  // Feeds all but what fits into a pass with the others; false when the user stopped it.
  bool ReadLong(Running& running, size_t most);
  // A pass of what is unread of the texts, and of each what follows it.
  void ReadTexts(std::span<Running> running);
  // A pass of the next tokens of their trees. Returns whether there were any.
  bool GrowTrees(std::span<Running> running);
  void Run(GrowthPass& pass);

  std::unique_ptr<Engine> engine_;
  std::map<int32_t, Text> texts_;
  int64_t n_passes_ = 0;
};

}  // namespace thermocline
