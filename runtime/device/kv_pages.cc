#include "runtime/device/kv_pages.h"

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

const KvSequences::Sequence& KvSequences::At(int32_t id) const {
  const auto found = sequences_.find(id);
  CHECK(found != sequences_.end());
  return found->second;
}

KvSequences::Sequence& KvSequences::At(int32_t id) {
  return const_cast<Sequence&>(std::as_const(*this).At(id));
}

int32_t KvSequences::Add() {
  sequences_[next_id_] = {};
  return next_id_++;
}

// Shares what the sequence holds. What was reserved and not written stays with the original.
int32_t KvSequences::Fork(int32_t id) {
  const Sequence& original = At(id);
  Sequence copy;
  copy.length = original.length;
  const int64_t n_pages = KvPagesFor(original.length);
  copy.pages.assign(original.pages.begin(), original.pages.begin() + n_pages);
  for (const int32_t page : copy.pages) pool_.Share(page);
  sequences_[next_id_] = std::move(copy);
  return next_id_++;
}

void KvSequences::Remove(int32_t id) {
  for (const int32_t page : At(id).pages) pool_.Release(page);
  sequences_.erase(id);
}

bool KvSequences::LastPageIsShared(const Sequence& sequence) const {
  const int64_t page = sequence.length / kKvPageTokens;
  return page < static_cast<int64_t>(sequence.pages.size()) &&
         pool_.references(sequence.pages[static_cast<size_t>(page)]) > 1;
}

int64_t KvSequences::PagesNeeded(int32_t id, int64_t n_tokens) const {
  const Sequence& sequence = At(id);
  if (n_tokens == 0) return 0;
  const int64_t more =
      KvPagesFor(sequence.length + n_tokens) - static_cast<int64_t>(sequence.pages.size());
  return (more > 0 ? more : 0) + (LastPageIsShared(sequence) ? 1 : 0);
}

void KvSequences::Reserve(int32_t id, int64_t n_tokens, std::vector<KvPageCopy>* copies) {
  CHECK(n_tokens >= 0);
  const int64_t needed = PagesNeeded(id, n_tokens);
  if (needed > pool_.n_free()) {
    throw Error(
        {.what = "the KV cache is full",
         .expected = std::to_string(needed) + " free pages of " + std::to_string(kKvPageTokens) +
                     " positions",
         .found = std::to_string(pool_.n_free()) + " of " + std::to_string(pool_.n_pages())});
  }
  if (n_tokens == 0) return;
  Sequence& sequence = At(id);
  if (LastPageIsShared(sequence)) {
    int32_t& page = sequence.pages[static_cast<size_t>(sequence.length / kKvPageTokens)];
    const KvPageCopy copy{page, pool_.Take(page)};
    // Nothing of the shared page is the sequence's own where the sequence ends with the page
    // before.
    if (sequence.length % kKvPageTokens != 0) copies->push_back(copy);
    pool_.Release(page);
    page = copy.to;
  }
  const auto wanted = static_cast<size_t>(KvPagesFor(sequence.length + n_tokens));
  while (sequence.pages.size() < wanted) {
    sequence.pages.push_back(pool_.Take(sequence.pages.empty() ? -1 : sequence.pages.back()));
  }
}

void KvSequences::Advance(int32_t id, int64_t n_tokens) {
  Sequence& sequence = At(id);
  CHECK(n_tokens >= 0);
  CHECK(KvPagesFor(sequence.length + n_tokens) <= static_cast<int64_t>(sequence.pages.size()));
  sequence.length += n_tokens;
}

void KvSequences::Truncate(int32_t id, int64_t n_tokens) {
  Sequence& sequence = At(id);
  CHECK(n_tokens >= 0 && n_tokens <= sequence.length);
  const auto kept = static_cast<size_t>(KvPagesFor(n_tokens));
  while (sequence.pages.size() > kept) {
    pool_.Release(sequence.pages.back());
    sequence.pages.pop_back();
  }
  sequence.length = n_tokens;
}

}  // namespace thermocline
