// Which pages of the KV cache belong to which sequence (PagedAttention, arXiv:2309.06180). A page
// holds the keys and values of kKvPageTokens positions of all layers and heads. Sequences that
// share a beginning share its pages; who writes to a shared page gets a copy of its own first.
//
// Nothing here knows where a page's memory lies: a cache (runtime/device/kv_cache.h) does.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace thermocline {

inline constexpr int64_t kKvPageTokens = 32;

// Pages that hold n positions.
inline constexpr int64_t KvPagesFor(int64_t n_positions) {
  return (n_positions + kKvPageTokens - 1) / kKvPageTokens;
}

// The pages of one tier and how many sequences use each.
class KvPagePool {
 public:
  explicit KvPagePool(int64_t n_pages);

  int64_t n_pages() const { return static_cast<int64_t>(references_.size()); }
  int64_t n_free() const { return n_free_; }
  int32_t references(int32_t page) const { return references_[static_cast<size_t>(page)]; }

  // A free page, now used once. Behind `last`, the sequence's last page, where that is free, so
  // that a sequence lies in one stretch; else where there is most room (last: -1 for none).
  // REQUIRES: n_free() > 0.
  int32_t Take(int32_t last);
  // One more, and one fewer, sequence uses the page.
  void Share(int32_t page);
  void Release(int32_t page);

 private:
  int32_t RoomiestPage() const;

  std::vector<int32_t> references_;  // (n_pages); 0: free
  int64_t n_free_;
};

// The page of a sequence that must be copied before it is written.
struct KvPageCopy {
  int32_t from = 0;
  int32_t to = 0;
};

class KvSequences {
 public:
  explicit KvSequences(int64_t n_pages) : pool_(n_pages) {}

  const KvPagePool& pool() const { return pool_; }

  // A new empty sequence, and one that shares all that another holds. Returns its id.
  int32_t Add();
  int32_t Fork(int32_t id);
  // Gives back what no other sequence uses. REQUIRES: the sequence is there.
  void Remove(int32_t id);

  // Positions that the sequence holds, and the pages of them and of what was reserved.
  int64_t length(int32_t id) const { return At(id).length; }
  std::span<const int32_t> pages(int32_t id) const { return At(id).pages; }

  // Pages that Reserve(id, n_tokens) would take.
  int64_t PagesNeeded(int32_t id, int64_t n_tokens) const;
  // Makes room for positions length(id) to length(id) + n_tokens - 1, which the next pass writes.
  // Adds to `copies` the pages whose contents must be copied before. Throws Error, and changes
  // nothing, when too few pages are free.
  void Reserve(int32_t id, int64_t n_tokens, std::vector<KvPageCopy>* copies);
  // n_tokens of what was reserved are written. REQUIRES: they were reserved.
  void Advance(int32_t id, int64_t n_tokens);
  // Forgets all but the first n_tokens positions (a rollback). REQUIRES: n_tokens <= length(id).
  void Truncate(int32_t id, int64_t n_tokens);

 private:
  struct Sequence {
    std::vector<int32_t> pages;
    int64_t length = 0;
  };
  const Sequence& At(int32_t id) const;
  Sequence& At(int32_t id);
  // Whether the page that position length(id) lies in is another sequence's, too.
  bool LastPageIsShared(const Sequence& sequence) const;

  KvPagePool pool_;
  std::map<int32_t, Sequence> sequences_;
  int32_t next_id_ = 0;
};

}  // namespace thermocline
