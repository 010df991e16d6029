// Byte pair encoding of one word (Sennrich et al., arXiv:1508.07909): of all neighbours that can be
// joined those with the lowest rank are, the leftmost first, until none can.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/text/merge_table.h"

namespace thermocline {

class WordMerger {
 public:
  // Up to this length all pairs are looked at before each join, which is fastest for words of a
  // language. Longer words take a heap of pairs: n tokens cost O(n log n).
  static constexpr size_t kMaxScanned = 48;

  // `merges` must outlive this.
  explicit WordMerger(const MergeTable& merges, size_t max_scanned = kMaxScanned)
      : merges_(merges), max_scanned_(max_scanned) {}

  // Joins the tokens of *ids in place. Throws Interrupted out of a very long word when the user
  // asked to stop.
  void Merge(std::vector<int32_t>* ids);

 private:
  struct Candidate {
    int32_t rank;
    uint32_t at;      // position of the left token
    uint32_t behind;  // position of the right token
    int32_t left;     // the tokens when it was found: both must still be there
    int32_t right;
    int32_t result;
  };
  static bool ComesLater(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  }
  void MergeByScanning(std::vector<int32_t>* ids);
  void MergeByHeap(std::vector<int32_t>* ids);
  void AddCandidate(const std::vector<int32_t>& ids, uint32_t at, uint32_t behind);

  const MergeTable& merges_;
  size_t max_scanned_;
  std::vector<MergeTable::Entry> pairs_;  // how token i and its right neighbour are joined
  std::vector<Candidate> heap_;           // the next one to join in front
  std::vector<uint32_t> previous_;        // the living neighbours of each position
  std::vector<uint32_t> next_;
};

}  // namespace thermocline
