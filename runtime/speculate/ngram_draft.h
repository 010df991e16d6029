// Drafts from the text itself (prompt lookup): where its last tokens stand earlier in it, what
// followed there is proposed. Costs next to nothing, and pays where texts repeat: code, quotes,
// answers from a document, lists. Where several things followed, a tree can hold them all.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/speculate/draft_source.h"

namespace thermocline {

// Where stretches of tokens stand in a text that grows.
class NgramIndex {
 public:
  static constexpr int64_t kFewest = 2;  // tokens that must agree

  // Where the longest stretch stands before that ends like the text does, the latest of equally
  // long ones: what follows it begins at `next`.
  struct Match {
    int64_t next = 0;
    int64_t length = 0;  // of the stretch, up to kLongest; 0: there is none
  };
  static constexpr int64_t kLongest = 64;

  // Makes it that of `ids`. Reads what is new only, where the text has grown.
  void Follow(std::span<const int32_t> ids);
  Match Find() const;
  // The best of these matches, the longest first, at most so many; of one length the latest first.
  std::vector<Match> FindSeveral(size_t most) const { return FindBehind({}, most); }
  // The same as if the text went on with these tokens: where it ended like that before.
  std::vector<Match> FindBehind(std::span<const int32_t> path, size_t most) const;
  const std::vector<int32_t>& ids() const { return ids_; }

 private:
  static uint64_t KeyOf(int32_t first, int32_t second) {
    return static_cast<uint64_t>(static_cast<uint32_t>(first)) << 32U |
           static_cast<uint32_t>(second);
  }

  std::vector<int32_t> ids_;
  std::unordered_map<uint64_t, int64_t> last_;  // where a pair of tokens ends for the last time
  std::vector<int64_t> before_;  // by position: where the pair that ends there ended before; -1
};

// How certain what follows a stretch of this length is taken to be, before it is known.
inline double NgramCertainty(int64_t length) {
  return static_cast<double>(length) / (static_cast<double>(length) + 2);
}
// Proposes behind these nodes (DraftTree::kText: the text) what followed where the text ended like
// it would with the paths to them.
void ProposeNgrams(const NgramIndex& index, std::span<const int32_t> parents, DraftTree* tree);

class NgramDraft : public DraftSource {
 public:
  std::string name() const override { return "ngram"; }
  void Draft(std::span<const DraftRequest> requests) override;
  void Forget(int32_t text) override { texts_.erase(text); }

 private:
  std::map<int32_t, NgramIndex> texts_;
};

}  // namespace thermocline
