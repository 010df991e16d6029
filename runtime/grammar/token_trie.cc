#include "runtime/grammar/token_trie.h"

#include <algorithm>
#include <string_view>

namespace thermocline {

TokenTrie::TokenTrie(std::span<const std::string> bytes) {
  for (size_t id = 0; id < bytes.size(); ++id) {
    if (bytes[id].empty() || bytes[id].size() > kMaxTokenBytes) continue;
    tokens_.push_back(static_cast<int32_t>(id));
    longest_ = std::max(longest_, bytes[id].size());
  }
  const auto text = [&](int32_t id) -> std::string_view { return bytes[static_cast<size_t>(id)]; };
  std::sort(tokens_.begin(), tokens_.end(), [&](int32_t a, int32_t b) {
    const int order = text(a).compare(text(b));
    return order != 0 ? order < 0 : a < b;
  });
  nodes_.emplace_back();
  std::vector<uint32_t> path = {0};  // the nodes of the token before
  const auto close = [&](size_t depth) {
    for (; path.size() > depth + 1; path.pop_back()) {
      nodes_[path.back()].subtree_end = static_cast<uint32_t>(nodes_.size());
    }
  };
  std::string_view before;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view name = text(tokens_[i]);
    const auto parts = std::mismatch(before.begin(), before.end(), name.begin(), name.end());
    const auto shared = static_cast<size_t>(parts.first - before.begin());
    if (shared < name.size()) {
      close(shared);
      for (size_t depth = shared; depth < name.size(); ++depth) {
        path.push_back(static_cast<uint32_t>(nodes_.size()));
        // A node on the way has no tokens of its own: the next one begins where it does.
        nodes_.push_back({.first_token = static_cast<uint32_t>(i),
                          .depth = static_cast<uint16_t>(depth + 1),
                          .byte = static_cast<uint8_t>(name[depth])});
      }
    }
    before = name;
  }
  close(0);
  nodes_[0].subtree_end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back(
      {.subtree_end = nodes_[0].subtree_end, .first_token = static_cast<uint32_t>(tokens_.size())});
}

}  // namespace thermocline
