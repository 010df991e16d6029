#include "runtime/text/piece_trie.h"

#include <algorithm>

namespace thermocline {

// Goes through the sorted names level by level: the names of a node lie side by side, and those of
// each child are the ones with the same next byte.
PieceTrie::PieceTrie(std::vector<std::pair<std::string, int32_t>> pieces) : nodes_(1) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  struct Range {
    size_t begin;
    size_t end;
    size_t depth;
  };
  std::vector<Range> ranges = {{0, pieces.size(), 0}};  // of the node with the same index
  for (size_t node = 0; node < nodes_.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    while (begin < end && pieces[begin].first.size() == depth) {
      if (depth > 0 && nodes_[node].id < 0) nodes_[node].id = pieces[begin].second;
      ++begin;
    }
    nodes_[node].first_child = static_cast<Node>(nodes_.size());
    while (begin < end) {
      // Strings are compared by unsigned bytes, and so are labels.
      const char label = pieces[begin].first[depth];
      size_t next = begin;
      while (next < end && pieces[next].first[depth] == label) ++next;
      Entry child;
      child.label = static_cast<uint8_t>(label);
      nodes_.push_back(child);
      ranges.push_back({begin, next, depth + 1});
      ++nodes_[node].n_children;
      begin = next;
    }
  }
  for (Node child = 1; child <= nodes_[kRoot].n_children; ++child) {
    first_nodes_[nodes_[child].label] = child;
  }
}

}  // namespace thermocline
