// A draft as it is fed: the text's unread token and behind it the tree's tokens, in an order in
// which the likeliest path comes first, so that it lies where it will stay if it is accepted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/speculate/draft_tree.h"

namespace thermocline {

struct TreeRows {
  // REQUIRES: text is not empty.
  TreeRows(std::span<const int32_t> text, const DraftTree& tree);

  // The row whose logits say what follows a node, or DraftTree::kText.
  int32_t RowOf(int32_t node) const {
    return node == DraftTree::kText ? n_text - 1 : rows[static_cast<size_t>(node)];
  }
  // Rows from the first on to that of a node.
  std::vector<int32_t> PathTo(const DraftTree& tree, int32_t node) const;

  std::vector<int32_t> ids;
  std::vector<int32_t> parents;  // by row, the row that it follows; -1: of the first
  std::vector<int32_t> rows;     // by node
  int32_t n_text = 0;
};

}  // namespace thermocline
