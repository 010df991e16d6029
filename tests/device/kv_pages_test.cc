// Page tables under random growth, forks, rollbacks and removals, compared with a model that keeps
// every sequence's tokens: what a page holds is what its sequences wrote there, and nothing leaks.
#include "runtime/device/kv_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "runtime/core/error.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Reserves pages for n tokens, and says what must be copied.
std::vector<KvPageCopy> Append(KvSequences& kv, int32_t id, int64_t n) {
  std::vector<KvPageCopy> copies;
  kv.Reserve(id, n, &copies);
  kv.Advance(id, n);
  return copies;
}

TEST(KvPages, ASequenceAloneLiesInOneStretch) {
  KvSequences kv(8);
  const int32_t id = kv.Add();
  for (int i = 0; i < 8 * kKvPageTokens; ++i) Append(kv, id, 1);
  EXPECT_THAT(kv.pages(id), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  kv.Truncate(id, 0);
  EXPECT_EQ(kv.pool().n_free(), 8);
  Append(kv, id, 2 * kKvPageTokens + 1);
  EXPECT_THAT(kv.pages(id), ElementsAre(0, 1, 2));
}

TEST(KvPages, AnotherSequenceStartsWhereThereIsRoomForBoth) {
  KvSequences kv(16);
  const int32_t a = kv.Add();
  const int32_t b = kv.Add();
  for (int i = 0; i < 4; ++i) {
    Append(kv, a, kKvPageTokens);
    Append(kv, b, kKvPageTokens);
  }
  EXPECT_THAT(kv.pages(a), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(kv.pages(b), ElementsAre(8, 9, 10, 11));
}

TEST(KvPages, AForkSharesUntilOneOfThemWrites) {
  KvSequences kv(8);
  const int32_t a = kv.Add();
  Append(kv, a, kKvPageTokens + 5);
  const int32_t b = kv.Fork(a);
  EXPECT_EQ(kv.pool().n_free(), 6);
  EXPECT_EQ(kv.pool().references(0), 2);
  EXPECT_EQ(kv.PagesNeeded(b, 1), 1);
  const auto copies = Append(kv, b, 1);
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, 1);
  EXPECT_EQ(kv.pages(b)[0], 0);
  EXPECT_EQ(kv.pages(b)[1], copies[0].to);
  EXPECT_TRUE(Append(kv, a, 1).empty());  // its own again
  kv.Remove(a);
  EXPECT_EQ(kv.pool().references(0), 1);
  kv.Remove(b);
  EXPECT_EQ(kv.pool().n_free(), 8);
}

TEST(KvPages, AForkAtAPagesEndCopiesNothing) {
  KvSequences kv(8);
  const int32_t a = kv.Add();
  Append(kv, a, 2 * kKvPageTokens);
  const int32_t b = kv.Fork(a);
  EXPECT_TRUE(Append(kv, a, 3).empty());
  EXPECT_TRUE(Append(kv, b, 3).empty());
  EXPECT_NE(kv.pages(a)[2], kv.pages(b)[2]);
}

TEST(KvPages, AFullCacheIsAnErrorThatChangesNothing) {
  KvSequences kv(3);
  const int32_t a = kv.Add();
  Append(kv, a, 2 * kKvPageTokens);
  std::vector<KvPageCopy> copies;
  EXPECT_THAT(MessageOf([&] { kv.Reserve(a, kKvPageTokens + 1, &copies); }),
              HasSubstr("the KV cache is full"));
  EXPECT_EQ(kv.pages(a).size(), 2U);
  EXPECT_EQ(kv.pool().n_free(), 1);
  kv.Reserve(a, kKvPageTokens, &copies);
  EXPECT_EQ(kv.pool().n_free(), 0);
}

// Pages with what was written to them: a number per position.
class ModelOfPages {
 public:
  explicit ModelOfPages(int64_t n_pages)
      : n_pages_(n_pages),
        kv_(n_pages),
        memory_(static_cast<size_t>(n_pages * kKvPageTokens), -1) {}

  void Grow(int32_t id, int64_t n) {
    if (kv_.PagesNeeded(id, n) > kv_.pool().n_free()) {
      std::vector<KvPageCopy> none;
      EXPECT_THROW(kv_.Reserve(id, n, &none), Error);
      EXPECT_TRUE(none.empty());
      return;
    }
    std::vector<KvPageCopy> copies;
    kv_.Reserve(id, n, &copies);
    for (const KvPageCopy& copy : copies) {
      const auto from = memory_.begin() + copy.from * kKvPageTokens;
      std::copy_n(from, kKvPageTokens, memory_.begin() + copy.to * kKvPageTokens);
    }
    for (int64_t i = 0; i < n; ++i) {
      const auto position = static_cast<int64_t>(tokens_[id].size());
      const int32_t page = kv_.pages(id)[static_cast<size_t>(position / kKvPageTokens)];
      EXPECT_EQ(kv_.pool().references(page), 1) << "a shared page is written";
      tokens_[id].push_back(next_);
      memory_[static_cast<size_t>(page * kKvPageTokens + position % kKvPageTokens)] = next_++;
    }
    kv_.Advance(id, n);
  }
  void Add() { tokens_[kv_.Add()] = {}; }
  void Fork(int32_t id) {
    const int32_t copy = kv_.Fork(id);
    tokens_[copy] = tokens_[id];
  }
  void Truncate(int32_t id, int64_t n) {
    kv_.Truncate(id, n);
    tokens_[id].resize(static_cast<size_t>(n));
  }
  void Remove(int32_t id) {
    kv_.Remove(id);
    tokens_.erase(id);
  }
  size_t size() const { return tokens_.size(); }
  int32_t id(size_t i) const { return std::next(tokens_.begin(), static_cast<int64_t>(i))->first; }
  int64_t length(int32_t id) const { return kv_.length(id); }

  // Every sequence reads what it wrote, and each page is counted as often as it is used.
  void Check() const {
    std::vector<int32_t> uses(static_cast<size_t>(n_pages_), 0);
    for (const auto& [id, tokens] : tokens_) {
      ASSERT_EQ(kv_.length(id), static_cast<int64_t>(tokens.size()));
      for (const int32_t page : kv_.pages(id)) ++uses[static_cast<size_t>(page)];
      for (size_t p = 0; p < tokens.size(); ++p) {
        const int64_t page = kv_.pages(id)[p / kKvPageTokens];
        const auto at = static_cast<size_t>(page) * kKvPageTokens + p % kKvPageTokens;
        ASSERT_EQ(memory_[at], tokens[p]) << "sequence " << id << ", position " << p;
      }
    }
    int64_t n_free = 0;
    for (int64_t page = 0; page < n_pages_; ++page) {
      ASSERT_EQ(kv_.pool().references(static_cast<int32_t>(page)), uses[static_cast<size_t>(page)]);
      n_free += uses[static_cast<size_t>(page)] == 0 ? 1 : 0;
    }
    ASSERT_EQ(kv_.pool().n_free(), n_free);
  }

 private:
  int64_t n_pages_;
  KvSequences kv_;
  std::vector<int64_t> memory_;
  std::map<int32_t, std::vector<int64_t>> tokens_;
  int64_t next_ = 0;
};

TEST(KvPages, TenThousandRandomOperationsLeakNothing) {
  std::mt19937 rng(5);
  const auto up_to = [&rng](int64_t n) {
    return static_cast<int64_t>(rng() % static_cast<uint64_t>(n + 1));
  };
  ModelOfPages model(48);
  for (int i = 0; i < 10'000; ++i) {
    if (model.size() == 0 || (model.size() < 9 && up_to(9) == 0)) {
      model.Add();
      continue;
    }
    const int32_t id = model.id(rng() % model.size());
    switch (up_to(9)) {
      case 0:
        model.Remove(id);
        break;
      case 1:
        if (model.size() < 12) model.Fork(id);
        break;
      case 2:
      case 3:
        model.Truncate(id, up_to(model.length(id)));
        break;
      default:
        model.Grow(id, up_to(3) == 0 ? up_to(100) : 1);
    }
    model.Check();
    if (HasFatalFailure()) FAIL() << "operation " << i;
  }
}

}  // namespace
}  // namespace thermocline
