// The pieces of a vocabulary as a trie over their bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace thermocline {

class PieceTrie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr Node kNone = 0;  // the root is nobody's child

  PieceTrie() : nodes_(1) {}
  // Takes names and their ids. Of equal names the first counts, and empty ones are left out.
  // REQUIRES: the names have less than 4 GiB together.
  explicit PieceTrie(std::vector<std::pair<std::string, int32_t>> pieces);

  // Returns the node that a byte leads to, or kNone.
  Node Child(Node node, uint8_t byte) const {
    if (node == kRoot) return first_nodes_[byte];
    Node low = nodes_[node].first_child;
    Node high = low + nodes_[node].n_children;
    while (low < high) {
      const Node middle = low + (high - low) / 2;
      if (nodes_[middle].label == byte) return middle;
      if (nodes_[middle].label < byte) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return kNone;
  }
  // Returns the id of the piece that ends at a node, or -1.
  int32_t IdAt(Node node) const { return nodes_[node].id; }

 private:
  struct Entry {
    Node first_child = 0;  // children lie side by side, by their labels
    int32_t id = -1;
    uint16_t n_children = 0;
    uint8_t label = 0;  // the byte that leads here
  };
  std::vector<Entry> nodes_;             // level by level
  std::array<Node, 256> first_nodes_{};  // the root's children
};

}  // namespace thermocline
