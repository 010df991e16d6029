#include "runtime/text/word_merger.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

constexpr int32_t kJoinedAway = -2;  // at positions that their left neighbour has taken in
constexpr uint32_t kNoPosition = std::numeric_limits<uint32_t>::max();
constexpr size_t kJoinsBetweenPolls = size_t{1} << 16;

}  // namespace

void WordMerger::Merge(std::vector<int32_t>* ids) {
  if (ids->size() < 2) return;
  if (ids->size() <= max_scanned_) {
    MergeByScanning(ids);
  } else {
    MergeByHeap(ids);
  }
}

void WordMerger::MergeByScanning(std::vector<int32_t>* ids) {
  std::vector<int32_t>& word = *ids;
  pairs_.clear();
  for (size_t i = 0; i + 1 < word.size(); ++i) pairs_.push_back(merges_.Find(word[i], word[i + 1]));
  while (!pairs_.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < pairs_.size(); ++i) {
      if (pairs_[i].rank < pairs_[best].rank) best = i;
    }
    if (pairs_[best].rank == MergeTable::kNoRank) return;
    word[best] = pairs_[best].result;
    word.erase(word.begin() + static_cast<ptrdiff_t>(best) + 1);
    pairs_.erase(pairs_.begin() + static_cast<ptrdiff_t>(best));
    if (best > 0) pairs_[best - 1] = merges_.Find(word[best - 1], word[best]);
    if (best < pairs_.size()) pairs_[best] = merges_.Find(word[best], word[best + 1]);
  }
}

void WordMerger::AddCandidate(const std::vector<int32_t>& ids, uint32_t at, uint32_t behind) {
  const MergeTable::Entry entry = merges_.Find(ids[at], ids[behind]);
  if (entry.rank == MergeTable::kNoRank) return;
  heap_.push_back({entry.rank, at, behind, ids[at], ids[behind], entry.result});
}

void WordMerger::MergeByHeap(std::vector<int32_t>* ids) {
  std::vector<int32_t>& word = *ids;
  CHECK(word.size() < kNoPosition);
  const auto size = static_cast<uint32_t>(word.size());
  heap_.clear();
  previous_.resize(size);
  next_.resize(size);
  for (uint32_t i = 0; i < size; ++i) {
    previous_[i] = i == 0 ? kNoPosition : i - 1;
    next_[i] = i + 1 == size ? kNoPosition : i + 1;
    if (i + 1 < size) AddCandidate(word, i, i + 1);
  }
  std::make_heap(heap_.begin(), heap_.end(), ComesLater);
  const auto add = [&](uint32_t at, uint32_t behind) {
    const size_t n_before = heap_.size();
    AddCandidate(word, at, behind);
    if (heap_.size() > n_before) std::push_heap(heap_.begin(), heap_.end(), ComesLater);
  };
  for (size_t n_taken = 1; !heap_.empty(); ++n_taken) {
    if (n_taken % kJoinsBetweenPolls == 0) ThrowIfInterrupted();
    std::pop_heap(heap_.begin(), heap_.end(), ComesLater);
    const Candidate best = heap_.back();
    heap_.pop_back();
    const auto [rank, at, behind, left, right, result] = best;
    if (word[at] != left || next_[at] != behind || word[behind] != right) continue;
    word[at] = result;
    word[behind] = kJoinedAway;
    next_[at] = next_[behind];
    if (next_[at] != kNoPosition) previous_[next_[at]] = at;
    if (previous_[at] != kNoPosition) add(previous_[at], at);
    if (next_[at] != kNoPosition) add(at, next_[at]);
  }
  word.erase(std::remove(word.begin(), word.end(), kJoinedAway), word.end());
}

}  // namespace thermocline
