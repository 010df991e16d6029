// A pass in which several trees grow: what each reads next, as inputs of the model that drafts
// them, and whose tree each row's logits are for.
#pragma once

#include <algorithm>
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
  // Adds what a tree reads next, at most so many tokens, if anything. The sequence's text ends
  // where the tree begins. The growth must outlive this, and is added once.
  void Add(DraftGrowth* growth, int32_t sequence, int64_t tree_begin, int64_t most) {
    const size_t n = growth->Next(static_cast<size_t>(std::max<int64_t>(most, 0)));
    if (n == 0) return;
    for (size_t i = 0; i < n; ++i) rows_.emplace_back(growth, i);
    inputs_.push_back({.sequence = sequence,
                       .ids = growth->ids(),
                       .all_logits = true,
                       .tree_begin = tree_begin,
                       .parents = growth->parents()});
  }
  std::span<const SequenceInput> inputs() const { return inputs_; }
  // What the model says of a row of the inputs. Each tree ends its pass itself (EndPass).
  void Take(size_t row, const NextLogits& logits) {
    rows_[row].first->Take(rows_[row].second, logits);
  }
  size_t n_rows() const { return rows_.size(); }

 private:
  std::vector<SequenceInput> inputs_;
  std::vector<std::pair<DraftGrowth*, size_t>> rows_;  // whose, and which of its tokens
};

}  // namespace thermocline
