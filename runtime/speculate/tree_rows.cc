#include "runtime/speculate/tree_rows.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {

TreeRows::TreeRows(std::span<const int32_t> text, const DraftTree& tree)
    : ids(text.begin(), text.end()),
      rows(tree.nodes().size()),
      n_text(static_cast<int32_t>(text.size())) {
  CHECK(!text.empty());
  for (int32_t i = 0; i < n_text; ++i) parents.push_back(i - 1);
  const std::span<const DraftTree::Node> nodes = tree.nodes();
  // The next to be placed at the end; of those behind a node the likeliest last.
  std::vector<int32_t> waiting;
  const auto add_children = [&](int32_t parent) {
    const auto begin = static_cast<ptrdiff_t>(waiting.size());
    for (size_t i = nodes.size(); i-- > 0;) {
      if (nodes[i].parent == parent) waiting.push_back(static_cast<int32_t>(i));
    }
    std::stable_sort(waiting.begin() + begin, waiting.end(), [&](int32_t a, int32_t b) {
      return nodes[static_cast<size_t>(a)].chance < nodes[static_cast<size_t>(b)].chance;
    });
  };
  add_children(DraftTree::kText);
  while (!waiting.empty()) {
    const int32_t node = waiting.back();
    waiting.pop_back();
    const DraftTree::Node& of_tree = nodes[static_cast<size_t>(node)];
    rows[static_cast<size_t>(node)] = static_cast<int32_t>(ids.size());
    parents.push_back(RowOf(of_tree.parent));
    ids.push_back(of_tree.token);
    add_children(node);
  }
}

std::vector<int32_t> TreeRows::PathTo(const DraftTree& tree, int32_t node) const {
  std::vector<int32_t> path;
  for (; node != DraftTree::kText; node = tree.nodes()[static_cast<size_t>(node)].parent) {
    path.push_back(RowOf(node));
  }
  for (int32_t row = n_text - 1; row >= 0; --row) path.push_back(row);
  std::ranges::reverse(path);
  return path;
}

}  // namespace thermocline
