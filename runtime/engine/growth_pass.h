// A pass of a model that drafts, in which several trees grow: what each reads next, as inputs of
// the model, and whose tree each row's logits are for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/speculate/draft_growth.h"

namespace thermocline {

class GrowthPass {
 public:
  // Adds what is to be read of a text before its tree grows; what follows its last token is the
  // tree's first. The growth must outlive this, and is added once.
  void AddText(DraftGrowth* growth, int32_t sequence, std::span<const int32_t> ids);
  // Adds what a tree reads next, at most so many tokens, if anything. The sequence's text ends
  // where the tree begins.
  void Add(DraftGrowth* growth, int32_t sequence, int64_t tree_begin, int64_t most);
  std::span<const SequenceInput> inputs() const { return inputs_; }
  // Feeds all that to an engine's sequences by an executor of its, and the trees go on by what it
  // says: by few of the best logits where these are enough. REQUIRES: inputs.
  void Run(Engine& engine, Executor& executor);

 private:
  // Whose, and which of its tokens; -1: the text.
  struct Row {
    DraftGrowth* growth = nullptr;
    ptrdiff_t token = -1;
  };
  // How many of the best logits these trees are content with; 0: all are needed.
  int64_t BestNeeded(int64_t most) const;
  void Take(const Row& row, const NextLogits& logits);

  std::vector<SequenceInput> inputs_;
  std::vector<Row> rows_;
};

}  // namespace thermocline
