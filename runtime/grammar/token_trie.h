// The tokens of a vocabulary as a trie over their bytes, laid out so that a walk over all of them
// is one pass over an array: a node is followed by its subtree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace thermocline {

class TokenTrie {
 public:
  struct Node {
    uint32_t subtree_end = 0;  // the next node that is not below this one
    uint32_t first_token = 0;  // its tokens are those up to the next node's first
    uint16_t depth = 0;        // bytes from the root
    uint8_t byte = 0;          // the last of them
  };
  static constexpr size_t kMaxTokenBytes = 1024;

  // bytes: of every token by its id. Tokens without bytes, or with more than kMaxTokenBytes, are in
  // no node.
  explicit TokenTrie(std::span<const std::string> bytes);

  // The root's children are from node 1 on. nodes()[size()] is a node behind all.
  std::span<const Node> nodes() const { return nodes_; }
  uint32_t size() const { return static_cast<uint32_t>(nodes_.size()) - 1; }
  std::span<const int32_t> tokens_at(uint32_t node) const {
    const uint32_t first = nodes_[node].first_token;
    return std::span(tokens_).subspan(first, nodes_[node + 1].first_token - first);
  }
  size_t longest() const { return longest_; }  // bytes of the longest token

 private:
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  size_t longest_ = 0;
};

}  // namespace thermocline
