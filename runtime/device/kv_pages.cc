#include "runtime/device/kv_pages.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {

KvPagePool::KvPagePool(int64_t n_pages)
    : references_(static_cast<size_t>(n_pages), 0), n_free_(n_pages) {
  CHECK(n_pages >= 0 && n_pages <= INT32_MAX);
}

int32_t KvPagePool::Take(int32_t last) {
  CHECK(n_free_ > 0);
  const bool follows = last >= 0 && last + 1 < n_pages() && references(last + 1) == 0;
  const int32_t page = follows ? last + 1 : RoomiestPage();
  references_[static_cast<size_t>(page)] = 1;
  --n_free_;
  return page;
}

// Returns the first page of the longest free stretch, or its middle where a sequence in front of it
// may want to grow into it.
int32_t KvPagePool::RoomiestPage() const {
  int64_t best = -1;
  int64_t best_length = 0;
  for (int64_t begin = 0; begin < n_pages();) {
    if (references_[static_cast<size_t>(begin)] != 0) {
      ++begin;
      continue;
    }
    int64_t end = begin;
    while (end < n_pages() && references_[static_cast<size_t>(end)] == 0) ++end;
    if (end - begin > best_length) {
      best = begin;
      best_length = end - begin;
    }
    begin = end;
  }
  CHECK(best >= 0);
  return static_cast<int32_t>(best == 0 ? 0 : best + best_length / 2);
}

void KvPagePool::Share(int32_t page) {
  CHECK(references(page) > 0);
  ++references_[static_cast<size_t>(page)];
}

void KvPagePool::Release(int32_t page) {
  CHECK(references(page) > 0);
  if (--references_[static_cast<size_t>(page)] == 0) ++n_free_;
}

KvSequences::KvSequences(std::span<const KvPageClass> classes)
    : classes_(classes.begin(), classes.end()) {
  CHECK(!classes_.empty());
  for (const KvPageClass& page_class : classes_) pools_.emplace_back(page_class.n_pages);
}

const KvSequences::Sequence& KvSequences::At(int32_t id) const {
  const auto found = sequences_.find(id);
  CHECK(found != sequences_.end());
  return found->second;
}

KvSequences::Sequence& KvSequences::At(int32_t id) {
  return const_cast<Sequence&>(std::as_const(*this).At(id));
}

int32_t KvSequences::Add() {
  sequences_[next_id_].held.resize(n_classes());
  return next_id_++;
}

// Shares what the sequence holds. What was reserved and not written stays with the original.
int32_t KvSequences::Fork(int32_t id) {
  Sequence copy = At(id);
  for (size_t c = 0; c < n_classes(); ++c) {
    Held& held = copy.held[c];
    held.pages.resize(static_cast<size_t>(KvPagesFor(copy.length) - held.first_page));
    for (const int32_t page : held.pages) pools_[c].Share(page);
  }
  for (const int32_t page : copy.encoder_pages) pools_.front().Share(page);
  sequences_[next_id_] = std::move(copy);
  return next_id_++;
}

int32_t KvSequences::AddFrom(std::span<const KvPageTable> tables, int64_t n_tokens) {
  CHECK(tables.size() == n_classes() && n_tokens % kKvPageTokens == 0);
  Sequence sequence;
  for (size_t c = 0; c < n_classes(); ++c) {
    const KvPageTable& table = tables[c];
    CHECK(table.end_position() == n_tokens);
    CHECK(n_tokens == 0 || table.first_position() <= classes_[c].FirstSeen(n_tokens));
    for (const int32_t page : table.pages) pools_[c].Share(page);
    sequence.held.push_back({table.first_page, {table.pages.begin(), table.pages.end()}});
  }
  sequence.length = n_tokens;
  sequences_[next_id_] = std::move(sequence);
  return next_id_++;
}

int32_t KvSequences::AddUnwritten(std::span<const int64_t> first_pages, int64_t n_tokens) {
  CHECK(first_pages.size() == n_classes());
  const int64_t end = KvPagesFor(n_tokens);
  for (size_t c = 0; c < n_classes(); ++c) {
    CHECK(first_pages[c] >= 0 && first_pages[c] <= end);
    CHECK(first_pages[c] * kKvPageTokens <= classes_[c].FirstSeen(n_tokens));
    CheckFree(end - first_pages[c], pools_[c].n_free(), c);
  }
  Sequence sequence;
  for (size_t c = 0; c < n_classes(); ++c) {
    Held& held = sequence.held.emplace_back();
    held.first_page = first_pages[c];
    while (held.end_page() < end) {
      held.pages.push_back(pools_[c].Take(held.pages.empty() ? -1 : held.pages.back()));
    }
  }
  sequence.length = n_tokens;
  sequences_[next_id_] = std::move(sequence);
  return next_id_++;
}

void KvSequences::Remove(int32_t id) {
  Sequence& sequence = At(id);
  for (size_t c = 0; c < n_classes(); ++c) KeepFirst(0, c, &sequence.held[c]);
  for (const int32_t page : sequence.encoder_pages) pools_.front().Release(page);
  sequences_.erase(id);
}

KvPageTable KvSequences::table(int32_t id, size_t page_class) const {
  const Held& held = At(id).held[page_class];
  return {held.first_page, held.pages};
}

const int32_t* KvSequences::SharedLastPage(const Sequence& sequence, size_t page_class) const {
  const Held& held = sequence.held[page_class];
  const int64_t page = sequence.length / kKvPageTokens;
  if (page >= held.end_page()) return nullptr;
  const int32_t* const last = &held.pages[static_cast<size_t>(page - held.first_page)];
  return pools_[page_class].references(*last) > 1 ? last : nullptr;
}

int64_t KvSequences::PagesNeeded(int32_t id, int64_t n_tokens, size_t page_class) const {
  const Sequence& sequence = At(id);
  if (n_tokens == 0) return 0;
  const int64_t more =
      KvPagesFor(sequence.length + n_tokens) - sequence.held[page_class].end_page();
  return (more > 0 ? more : 0) + (SharedLastPage(sequence, page_class) != nullptr ? 1 : 0);
}

void KvSequences::CheckFree(int64_t needed, int64_t n_free, size_t page_class) const {
  if (needed <= n_free) return;
  throw Error(
      {.what = "the KV cache is full",
       .expected = std::to_string(needed) + " free pages of " + std::to_string(kKvPageTokens) +
                   " positions",
       .found = std::to_string(n_free) + " of " + std::to_string(pool(page_class).n_pages())});
}

void KvSequences::ReserveEncoder(int32_t id, int64_t n_tokens) {
  CHECK(n_tokens > 0 && n_classes() == 1);
  KvPagePool& pool = pools_.front();
  Sequence& sequence = At(id);
  const auto is_own = [&pool](int32_t page) { return pool.references(page) == 1; };
  CheckFree(KvPagesFor(n_tokens),
            pool.n_free() + std::ranges::count_if(sequence.encoder_pages, is_own), 0);
  for (const int32_t page : sequence.encoder_pages) pool.Release(page);
  sequence.encoder_pages.clear();
  sequence.encoder_length = 0;
  while (static_cast<int64_t>(sequence.encoder_pages.size()) < KvPagesFor(n_tokens)) {
    sequence.encoder_pages.push_back(
        pool.Take(sequence.encoder_pages.empty() ? -1 : sequence.encoder_pages.back()));
  }
}

void KvSequences::SetEncoderLength(int32_t id, int64_t n_tokens) {
  Sequence& sequence = At(id);
  CHECK(KvPagesFor(n_tokens) == static_cast<int64_t>(sequence.encoder_pages.size()));
  sequence.encoder_length = n_tokens;
}

void KvSequences::Reserve(int32_t id, int64_t n_tokens, std::vector<KvPageCopy>* copies) {
  CHECK(n_tokens >= 0);
  for (size_t c = 0; c < n_classes(); ++c) {
    CheckFree(PagesNeeded(id, n_tokens, c), pools_[c].n_free(), c);
  }
  if (n_tokens == 0) return;
  Sequence& sequence = At(id);
  for (size_t c = 0; c < n_classes(); ++c) {
    KvPagePool& pool = pools_[c];
    Held& held = sequence.held[c];
    if (const int32_t* const shared = SharedLastPage(sequence, c)) {
      const KvPageCopy copy{*shared, pool.Take(*shared), c};
      // Nothing of the shared page is the sequence's own where the sequence ends with the page
      // before.
      if (sequence.length % kKvPageTokens != 0) copies->push_back(copy);
      pool.Release(copy.from);
      held.pages[static_cast<size_t>(shared - held.pages.data())] = copy.to;
    }
    while (held.end_page() < KvPagesFor(sequence.length + n_tokens)) {
      held.pages.push_back(pool.Take(held.pages.empty() ? -1 : held.pages.back()));
    }
  }
}

void KvSequences::DropReserved() {
  for (auto& [id, sequence] : sequences_) {
    for (size_t c = 0; c < n_classes(); ++c) {
      KeepFirst(KvPagesFor(sequence.length), c, &sequence.held[c]);
    }
  }
}

void KvSequences::Advance(int32_t id, int64_t n_tokens) {
  Sequence& sequence = At(id);
  CHECK(n_tokens >= 0);
  sequence.length += n_tokens;
  for (size_t c = 0; c < n_classes(); ++c) {
    Held& held = sequence.held[c];
    CHECK(KvPagesFor(sequence.length) <= held.end_page());
    const int64_t first_seen = classes_[c].FirstSeen(sequence.length) / kKvPageTokens;
    DropBefore(first_seen - kKvSlackPages, c, &held);
  }
}

int64_t KvSequences::KeepableLength(int32_t id, int64_t n_tokens) const {
  const Sequence& sequence = At(id);
  CHECK(n_tokens >= 0 && n_tokens <= sequence.length);
  for (size_t c = 0; c < n_classes(); ++c) {
    const int64_t first_seen = classes_[c].FirstSeen(n_tokens) / kKvPageTokens;
    if (first_seen < sequence.held[c].first_page) return 0;
  }
  return n_tokens;
}

void KvSequences::Truncate(int32_t id, int64_t n_tokens) {
  CHECK(n_tokens == KeepableLength(id, n_tokens));
  Sequence& sequence = At(id);
  for (size_t c = 0; c < n_classes(); ++c) {
    KeepFirst(KvPagesFor(n_tokens), c, &sequence.held[c]);
    if (n_tokens == 0) sequence.held[c].first_page = 0;
  }
  sequence.length = n_tokens;
}

void KvSequences::KeepFirst(int64_t n_pages, size_t page_class, Held* held) {
  while (held->end_page() > n_pages && !held->pages.empty()) {
    pools_[page_class].Release(held->pages.back());
    held->pages.pop_back();
  }
}

void KvSequences::DropBefore(int64_t first_page, size_t page_class, Held* held) {
  const int64_t n_gone = first_page - held->first_page;
  if (n_gone <= 0) return;
  const auto end = held->pages.begin() + n_gone;
  std::for_each(held->pages.begin(), end, [&](int32_t page) { pools_[page_class].Release(page); });
  held->pages.erase(held->pages.begin(), end);
  held->first_page = first_page;
}

}  // namespace thermocline
