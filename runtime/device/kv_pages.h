// Which pages of the KV cache belong to which sequence (PagedAttention, arXiv:2309.06180). A page
// holds the keys and values of kKvPageTokens positions, for the layers of one page class and all
// heads. Sequences that share a beginning share its pages; who writes to a shared page gets a copy
// of its own first. In a class whose layers see a window, pages that no row to come can see are
// given back, but for the last kKvSlackPages of them.
//
// Nothing here knows where a page's memory lies: a cache (runtime/device/kv_cache.h) does.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace thermocline {

inline constexpr int64_t kKvPageTokens = 32;
// Pages that stay behind a window, so that a rollback of up to so many pages needs nothing that is
// gone.
inline constexpr int64_t kKvSlackPages = 4;

// Pages that hold n positions.
inline constexpr int64_t KvPagesFor(int64_t n_positions) {
  return (n_positions + kKvPageTokens - 1) / kKvPageTokens;
}

// The pages of layers that look back equally far, and attend on the same tier.
struct KvPageClass {
  int64_t n_pages = 0;
  int64_t window = 0;  // positions that a row sees, its own included; 0: all before it
  size_t tier = 0;     // whose memory has them

  // The first position that a row at `position` sees.
  int64_t FirstSeen(int64_t position) const {
    return window == 0 ? 0 : std::max<int64_t>(0, position + 1 - window);
  }
};

// Where the positions of a sequence lie in a class: position p in page
// pages[p / kKvPageTokens - first_page]. What lies before is gone.
struct KvPageTable {
  int64_t first_page = 0;
  std::span<const int32_t> pages = {};

  int64_t first_position() const { return first_page * kKvPageTokens; }
  int64_t end_position() const {
    return first_position() + static_cast<int64_t>(pages.size()) * kKvPageTokens;
  }
  bool Has(int64_t position) const {
    return position >= first_position() && position < end_position();
  }
  // REQUIRES: Has(position).
  int32_t PageOf(int64_t position) const {
    return pages[static_cast<size_t>(position / kKvPageTokens - first_page)];
  }
  // The page times kKvPageTokens, and the place there. REQUIRES: Has(position).
  int64_t SlotOf(int64_t position) const {
    return int64_t{PageOf(position)} * kKvPageTokens + position % kKvPageTokens;
  }
};

// The pages of one class on one tier and how many sequences use each.
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
  size_t page_class = 0;
};

// A position whose keys and values go to another place: page times kKvPageTokens, and the place
// there.
struct KvPositionCopy {
  int64_t from = 0;
  int64_t to = 0;
  size_t page_class = 0;
};

class KvSequences {
 public:
  // REQUIRES: a class or more.
  explicit KvSequences(std::span<const KvPageClass> classes);

  size_t n_classes() const { return classes_.size(); }
  const KvPagePool& pool(size_t page_class = 0) const { return pools_[page_class]; }

  // A new empty sequence, and one that shares all that another holds. Returns its id.
  int32_t Add();
  int32_t Fork(int32_t id);
  // A new sequence of n_tokens positions that lie in pages of others, by class; it shares them.
  // REQUIRES: the tables have all that a row at position n_tokens sees, whole pages of it, and
  // nothing behind it.
  int32_t AddFrom(std::span<const KvPageTable> tables, int64_t n_tokens);
  // A new sequence of n_tokens positions whose keys and values the caller writes, of each class
  // from page first_pages[class] on. Throws Error, and changes nothing, when too few pages are
  // free. REQUIRES: a row at position n_tokens sees nothing before these.
  int32_t AddUnwritten(std::span<const int64_t> first_pages, int64_t n_tokens);
  // Gives back what no other sequence uses. REQUIRES: the sequence is there.
  void Remove(int32_t id);

  // For who keeps pages beyond the sequences that they come from: counts as one more, and one
  // fewer, that uses the page. REQUIRES: the page is used.
  void Hold(int32_t page, size_t page_class) { pools_[page_class].Share(page); }
  void LetGo(int32_t page, size_t page_class) { pools_[page_class].Release(page); }
  // A free page for who keeps pages, used once; he lets go of it. REQUIRES: one is free.
  int32_t Take(size_t page_class, int32_t last) { return pools_[page_class].Take(last); }
  const KvPageClass& page_class(size_t c) const { return classes_[c]; }

  // Positions that the sequence has, and the pages of those that are kept and of what was reserved.
  int64_t length(int32_t id) const { return At(id).length; }
  KvPageTable table(int32_t id, size_t page_class = 0) const;

  // Which adapters the sequence's tokens are fed with (BatchSequence::adapter_set); a fork has its
  // parent's. What is there already stays as it is. REQUIRES: it is one of the model's sets.
  int32_t adapter_set(int32_t id) const { return At(id).adapter_set; }
  void set_adapter_set(int32_t id, int32_t adapter_set) { At(id).adapter_set = adapter_set; }

  // The positions of the text that the model's encoder read for the sequence, and their pages; 0
  // and none before. They are apart from the sequence's own; a fork shares them.
  int64_t encoder_length(int32_t id) const { return At(id).encoder_length; }
  std::span<const int32_t> encoder_pages(int32_t id) const { return At(id).encoder_pages; }
  // Gives back what the encoder's text before used, and makes room for one of n_tokens, which the
  // next pass writes. Throws Error, and changes nothing, when too few pages are free.
  // REQUIRES: all layers are of one class.
  void ReserveEncoder(int32_t id, int64_t n_tokens);
  // The text is written. REQUIRES: n_tokens were reserved.
  void SetEncoderLength(int32_t id, int64_t n_tokens);

  // Pages that Reserve(id, n_tokens) would take of a class.
  int64_t PagesNeeded(int32_t id, int64_t n_tokens, size_t page_class = 0) const;
  // Makes room for positions length(id) to length(id) + n_tokens - 1, which the next pass writes.
  // Adds to `copies` the pages whose contents must be copied before. Throws Error, and changes
  // nothing, when too few pages are free.
  void Reserve(int32_t id, int64_t n_tokens, std::vector<KvPageCopy>* copies);
  // Gives back what was reserved for any sequence and not written: what a pass that failed leaves.
  void DropReserved();
  // n_tokens of what was reserved are written. Gives back what no row to come can see.
  // REQUIRES: they were reserved.
  void Advance(int32_t id, int64_t n_tokens);

  // How much of its first n_tokens positions a rollback can keep: all, or none where a row behind
  // them would see what a window has let go of. It is all of them up to kKvSlackPages *
  // kKvPageTokens positions behind the longest that the sequence was.
  // REQUIRES: n_tokens <= length(id).
  int64_t KeepableLength(int32_t id, int64_t n_tokens) const;
  // Forgets all but the first n_tokens positions (a rollback).
  // REQUIRES: n_tokens == KeepableLength(id, n_tokens).
  void Truncate(int32_t id, int64_t n_tokens);

 private:
  // What a sequence has of a class.
  struct Held {
    int64_t first_page = 0;
    std::vector<int32_t> pages;

    // Pages from the sequence's beginning on, those that are gone included.
    int64_t end_page() const { return first_page + static_cast<int64_t>(pages.size()); }
  };
  struct Sequence {
    std::vector<Held> held;  // by class
    int64_t length = 0;
    int32_t adapter_set = 0;
    std::vector<int32_t> encoder_pages;
    int64_t encoder_length = 0;
  };
  const Sequence& At(int32_t id) const;
  Sequence& At(int32_t id);
  void CheckFree(int64_t needed, int64_t n_free, size_t page_class) const;
  // The page that position length(id) lies in, where that is another sequence's, too; else null.
  const int32_t* SharedLastPage(const Sequence& sequence, size_t page_class) const;
  // Gives back the pages behind the first n_pages of the sequence, and those before first_page.
  void KeepFirst(int64_t n_pages, size_t page_class, Held* held);
  void DropBefore(int64_t first_page, size_t page_class, Held* held);

  std::vector<KvPageClass> classes_;
  std::vector<KvPagePool> pools_;  // by class
  std::map<int32_t, Sequence> sequences_;
  int32_t next_id_ = 0;
};

}  // namespace thermocline
