// A tree while a model drafts it: which of its tokens the model reads next, and where those lie
// that it has read. The likeliest tokens are taken first; the model reads in one pass what is about
// as likely.
//
//   growth = DraftGrowth(tree); feed the text; growth.TakeText(logits);
//   while (growth.Next(most) > 0): feed growth.ids() with growth.parents(); growth.Take(i, logits)
//   of each; growth.EndPass()
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/speculate/draft_tree.h"

namespace thermocline {

class DraftGrowth {
 public:
  // It must outlive this.
  explicit DraftGrowth(DraftTree* tree) : tree_(tree) {}

  DraftTree& tree() { return *tree_; }
  // What the model says follows the text.
  void TakeText(const NextLogits& logits);
  // Chooses what is read in the next pass, at most so many tokens. Returns how many; 0: the tree is
  // done.
  size_t Next(size_t most);
  // Its tokens, and of all tokens that were read, these included, which of them each follows; -1:
  // the text (SequenceInput::parents).
  const std::vector<int32_t>& ids() const { return ids_; }
  const std::vector<int32_t>& parents() const { return parents_; }
  // What follows the i-th of them; of each, in their order.
  void Take(size_t i, const NextLogits& logits);
  void EndPass();

  // Tokens that were read, in their order (parents() is of these).
  const std::vector<int32_t>& read() const { return read_ids_; }

 private:
  // Takes what is worth it, as far as what may follow what is not read yet would not be likelier.
  void TakeOffers();

  DraftTree* tree_;
  std::vector<int32_t> unread_;   // nodes that something may follow
  std::vector<int32_t> reading_;  // nodes of the pass
  std::vector<int32_t> ids_;
  std::vector<int32_t> read_;  // nodes, in the order in which they were read
  std::vector<int32_t> read_ids_;
  std::vector<int32_t> parents_;
};

}  // namespace thermocline
