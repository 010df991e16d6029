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
#include "runtime/device/kv_layout.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// Pages of layers that keep all positions.
std::vector<KvPageClass> OneClass(int64_t n_pages) { return {{.n_pages = n_pages}}; }

// Reserves pages for n tokens, and says what must be copied.
std::vector<KvPageCopy> Append(KvSequences& kv, int32_t id, int64_t n) {
  std::vector<KvPageCopy> copies;
  kv.Reserve(id, n, &copies);
  kv.Advance(id, n);
  return copies;
}

TEST(KvPages, ASequenceAloneLiesInOneStretch) {
  KvSequences kv(OneClass(8));
  const int32_t id = kv.Add();
  for (int i = 0; i < 8 * kKvPageTokens; ++i) Append(kv, id, 1);
  EXPECT_THAT(kv.table(id).pages, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  kv.Truncate(id, 0);
  EXPECT_EQ(kv.pool().n_free(), 8);
  Append(kv, id, 2 * kKvPageTokens + 1);
  EXPECT_THAT(kv.table(id).pages, ElementsAre(0, 1, 2));
}

TEST(KvPages, AnEncodersTextIsSharedByForksAndGivenBackWithTheLast) {
  KvSequences kv(OneClass(6));
  const int32_t a = kv.Add();
  kv.ReserveEncoder(a, kKvPageTokens + 1);
  EXPECT_EQ(kv.encoder_length(a), 0) << "not written yet";
  kv.SetEncoderLength(a, kKvPageTokens + 1);
  Append(kv, a, 3);
  EXPECT_EQ(kv.pool().n_free(), 3);
  const int32_t b = kv.Fork(a);
  EXPECT_EQ(kv.encoder_length(b), kKvPageTokens + 1);
  EXPECT_EQ(kv.pool().n_free(), 3);
  kv.Truncate(a, 0);
  EXPECT_EQ(kv.encoder_length(a), kKvPageTokens + 1) << "a rollback keeps the text";
  // Another text for one of them; one that does not fit changes nothing.
  EXPECT_THAT(MessageOf([&] { kv.ReserveEncoder(a, 4 * kKvPageTokens); }),
              HasSubstr("the KV cache is full"));
  EXPECT_EQ(kv.encoder_length(a), kKvPageTokens + 1);
  kv.ReserveEncoder(a, 3 * kKvPageTokens);
  EXPECT_EQ(kv.pool().n_free(), 0);
  kv.ReserveEncoder(a, 3 * kKvPageTokens);  // in the place of its own
  EXPECT_EQ(kv.encoder_length(b), kKvPageTokens + 1);
  kv.Remove(a);
  kv.Remove(b);
  EXPECT_EQ(kv.pool().n_free(), 6);
}

TEST(KvPages, AnotherSequenceStartsWhereThereIsRoomForBoth) {
  KvSequences kv(OneClass(16));
  const int32_t a = kv.Add();
  const int32_t b = kv.Add();
  for (int i = 0; i < 4; ++i) {
    Append(kv, a, kKvPageTokens);
    Append(kv, b, kKvPageTokens);
  }
  EXPECT_THAT(kv.table(a).pages, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(kv.table(b).pages, ElementsAre(8, 9, 10, 11));
}

TEST(KvPages, AForkSharesUntilOneOfThemWrites) {
  KvSequences kv(OneClass(8));
  const int32_t a = kv.Add();
  Append(kv, a, kKvPageTokens + 5);
  const int32_t b = kv.Fork(a);
  EXPECT_EQ(kv.pool().n_free(), 6);
  EXPECT_EQ(kv.pool().references(0), 2);
  EXPECT_EQ(kv.PagesNeeded(b, 1), 1);
  const auto copies = Append(kv, b, 1);
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, 1);
  EXPECT_EQ(kv.table(b).pages[0], 0);
  EXPECT_EQ(kv.table(b).pages[1], copies[0].to);
  EXPECT_TRUE(Append(kv, a, 1).empty());  // its own again
  kv.Remove(a);
  EXPECT_EQ(kv.pool().references(0), 1);
  kv.Remove(b);
  EXPECT_EQ(kv.pool().n_free(), 8);
}

TEST(KvPages, AForkAtAPagesEndCopiesNothing) {
  KvSequences kv(OneClass(8));
  const int32_t a = kv.Add();
  Append(kv, a, 2 * kKvPageTokens);
  const int32_t b = kv.Fork(a);
  EXPECT_TRUE(Append(kv, a, 3).empty());
  EXPECT_TRUE(Append(kv, b, 3).empty());
  EXPECT_NE(kv.table(a).pages[2], kv.table(b).pages[2]);
}

TEST(KvPages, AFullCacheIsAnErrorThatChangesNothing) {
  KvSequences kv(OneClass(3));
  const int32_t a = kv.Add();
  Append(kv, a, 2 * kKvPageTokens);
  std::vector<KvPageCopy> copies;
  EXPECT_THAT(MessageOf([&] { kv.Reserve(a, kKvPageTokens + 1, &copies); }),
              HasSubstr("the KV cache is full"));
  EXPECT_EQ(kv.table(a).pages.size(), 2U);
  EXPECT_EQ(kv.pool().n_free(), 1);
  kv.Reserve(a, kKvPageTokens, &copies);
  EXPECT_EQ(kv.pool().n_free(), 0);
}

// ---- windows ----

constexpr int64_t kSlackTokens = kKvSlackPages * kKvPageTokens;

// Pages of layers that keep all positions, and of layers that see a window.
std::vector<KvPageClass> WithWindow(int64_t window, int64_t n_pages, int64_t n_window_pages) {
  return {{.n_pages = n_pages}, {.n_pages = n_window_pages, .window = window}};
}

TEST(KvWindows, PagesThatNoRowToComeSeesAreGivenBackButForTheSlack) {
  constexpr int64_t kWindow = 40;
  KvSequences kv(WithWindow(kWindow, 32, 32));
  const int32_t id = kv.Add();
  for (int64_t length = 1; length <= 32 * kKvPageTokens; ++length) {
    Append(kv, id, 1);
    const KvPageTable all = kv.table(id, 0);
    const KvPageTable last = kv.table(id, 1);
    ASSERT_EQ(all.first_page, 0);
    ASSERT_EQ(all.end_position(), last.end_position());
    // The next row stands at `length`, and sees its own position and 39 before.
    const int64_t first_seen = std::max<int64_t>(0, length - (kWindow - 1));
    ASSERT_EQ(last.first_page, std::max<int64_t>(0, first_seen / kKvPageTokens - kKvSlackPages));
  }
  EXPECT_EQ(kv.pool(0).n_free(), 0);
  EXPECT_EQ(kv.pool(1).n_free(), 32 - 2 - kKvSlackPages);
  kv.Remove(id);
  EXPECT_EQ(kv.pool(0).n_free(), 32);
  EXPECT_EQ(kv.pool(1).n_free(), 32);
}

// Its pages come round to the first ones, which are free by then.
TEST(KvWindows, ASequenceAloneLiesInTwoStretchesAtMost) {
  KvSequences kv(WithWindow(64, 400, 11));
  const int32_t id = kv.Add();
  for (int i = 0; i < 400 * kKvPageTokens; ++i) {
    Append(kv, id, 1);
    const std::span<const int32_t> pages = kv.table(id, 1).pages;
    int n_stretches = 1;
    for (size_t p = 1; p < pages.size(); ++p) n_stretches += pages[p] != pages[p - 1] + 1 ? 1 : 0;
    ASSERT_LE(n_stretches, 2) << i;
  }
}

TEST(KvWindows, ARollbackKeepsAllWithinTheSlackAndNothingBehindIt) {
  constexpr int64_t kWindow = 50;
  for (const int64_t length : {400, 415, 416, 417, 431}) {
    KvSequences kv(WithWindow(kWindow, 32, 32));
    const int32_t id = kv.Add();
    Append(kv, id, length);
    const int64_t first_kept = kv.table(id, 1).first_position();
    for (int64_t n = 0; n <= length; ++n) {
      const bool is_there = n + 1 - kWindow >= first_kept;
      ASSERT_EQ(kv.KeepableLength(id, n), is_there ? n : 0) << n << " of " << length;
      if (n >= length - kSlackTokens) {
        ASSERT_EQ(kv.KeepableLength(id, n), n);
      }
    }
    kv.Truncate(id, length - kSlackTokens);
    EXPECT_EQ(kv.table(id, 1).first_position(), first_kept);
    Append(kv, id, 1);
    EXPECT_EQ(kv.table(id, 1).first_position(), first_kept) << "nothing more is given back";
    EXPECT_EQ(kv.KeepableLength(id, 100), 0);
    kv.Truncate(id, 0);
    EXPECT_EQ(kv.pool(1).n_free(), 32);
    Append(kv, id, 3);
    EXPECT_EQ(kv.table(id, 1).first_page, 0);
  }
}

TEST(KvWindows, AForkKeepsWhatItsParentGivesBack) {
  KvSequences kv(WithWindow(33, 64, 64));
  const int32_t a = kv.Add();
  Append(kv, a, 300);
  const int32_t b = kv.Fork(a);
  const KvPageTable before = kv.table(b, 1);
  const std::vector<int32_t> pages(before.pages.begin(), before.pages.end());
  const auto copies = Append(kv, a, 600);
  ASSERT_EQ(copies.size(), 2U) << "of each class the page that both end in";
  EXPECT_EQ(copies[0].page_class, 0U);
  EXPECT_EQ(copies[1].page_class, 1U);
  EXPECT_EQ(copies[1].from, pages.back());
  EXPECT_EQ(kv.table(b, 1).first_page, before.first_page);
  EXPECT_THAT(kv.table(b, 1).pages, ElementsAreArray(pages));
  for (const int32_t page : pages) EXPECT_EQ(kv.pool(1).references(page), 1);
  kv.Remove(a);
  kv.Remove(b);
  EXPECT_EQ(kv.pool(1).n_free(), 64);
}

TEST(KvWindows, AFullClassIsAnErrorThatChangesNoOther) {
  KvSequences kv(WithWindow(10, 32, 3));
  const int32_t a = kv.Add();
  std::vector<KvPageCopy> copies;
  EXPECT_THAT(
      MessageOf([&] { kv.Reserve(a, 4 * kKvPageTokens, &copies); }),
      HasSubstr("the KV cache is full: expected 4 free pages of 32 positions, found 3 of 3"));
  EXPECT_EQ(kv.pool(0).n_free(), 32);
  kv.Reserve(a, 3 * kKvPageTokens, &copies);
  EXPECT_EQ(kv.pool(1).n_free(), 0);
  kv.DropReserved();
  EXPECT_EQ(kv.pool(0).n_free(), 32);
  EXPECT_EQ(kv.pool(1).n_free(), 3);
}

// Passes over sequences that come, fork, are rolled back and go, and some that fail: a pool of
// WindowPages always has the pages.
TEST(KvWindows, PlannedPagesAreEnoughForEveryPass) {
  std::mt19937 rng(11);
  const auto up_to = [&rng](int64_t n) {
    return static_cast<int64_t>(rng() % static_cast<uint64_t>(n + 1));
  };
  for (const KvRoom& room : {KvRoom{.context_tokens = 2000, .batch_tokens = 100},
                             KvRoom{.context_tokens = 1500, .batch_tokens = 33, .n_sequences = 3},
                             KvRoom{.context_tokens = 900, .batch_tokens = 8, .n_sequences = 8}}) {
    for (const int64_t window : {1, 31, 32, 33, 64, 100, 250}) {
      const int64_t n_pages = WindowPages(window, room);
      KvSequences kv(
          WithWindow(window, room.n_sequences * KvPagesFor(room.context_tokens), n_pages));
      int64_t least_free = n_pages;
      std::vector<int32_t> ids;
      for (int i = 0; i < 800; ++i) {
        while (ids.size() < static_cast<size_t>(room.n_sequences)) {
          ids.push_back(ids.empty() || up_to(3) == 0 ? kv.Add() : kv.Fork(ids[rng() % ids.size()]));
        }
        const size_t which = rng() % ids.size();
        if (up_to(19) == 0) {
          kv.Remove(ids[which]);
          ids.erase(ids.begin() + static_cast<int64_t>(which));
          continue;
        }
        const int64_t length = kv.length(ids[which]);
        if (up_to(9) == 0) {
          kv.Truncate(ids[which], kv.KeepableLength(ids[which], length - up_to(length)));
        }
        kv.DropReserved();
        const bool fails = up_to(9) == 0;
        int64_t left = room.batch_tokens;
        for (const int32_t id : ids) {
          const int64_t most = std::min(left, room.context_tokens - kv.length(id));
          const int64_t n = up_to(2) == 0 ? most : up_to(most);
          std::vector<KvPageCopy> copies;
          ASSERT_NO_THROW(kv.Reserve(id, n, &copies)) << "window " << window << ", pass " << i;
          left -= n;
          least_free = std::min(least_free, kv.pool(1).n_free());
          if (!fails) kv.Advance(id, n);
        }
      }
      if (room.n_sequences == 1) {
        EXPECT_LE(least_free, 3) << "no more are planned than that";
      }
    }
  }
}

// Pages with what was written to them: a number per position.
class ModelOfPages {
 public:
  explicit ModelOfPages(std::span<const KvPageClass> classes)
      : classes_(classes.begin(), classes.end()), kv_(classes) {
    for (const KvPageClass& pages : classes) {
      memory_.emplace_back(static_cast<size_t>(pages.n_pages * kKvPageTokens), -1);
    }
  }

  bool Fits(int32_t id, int64_t n) const {
    for (size_t c = 0; c < classes_.size(); ++c) {
      if (kv_.PagesNeeded(id, n, c) > kv_.pool(c).n_free()) return false;
    }
    return true;
  }
  void Grow(int32_t id, int64_t n) {
    if (!Fits(id, n)) {
      std::vector<KvPageCopy> none;
      EXPECT_THROW(kv_.Reserve(id, n, &none), Error);
      EXPECT_TRUE(none.empty());
      return;
    }
    std::vector<KvPageCopy> copies;
    kv_.Reserve(id, n, &copies);
    for (const KvPageCopy& copy : copies) {
      const auto memory = memory_[copy.page_class].begin();
      std::copy_n(memory + copy.from * kKvPageTokens, kKvPageTokens,
                  memory + copy.to * kKvPageTokens);
    }
    for (int64_t i = 0; i < n; ++i) {
      const auto position = static_cast<int64_t>(tokens_[id].size());
      for (size_t c = 0; c < classes_.size(); ++c) {
        EXPECT_EQ(kv_.pool(c).references(kv_.table(id, c).PageOf(position)), 1)
            << "a shared page is written";
        At(id, c, position) = next_;
      }
      tokens_[id].push_back(next_++);
    }
    kv_.Advance(id, n);
  }
  void Add() { tokens_[kv_.Add()] = {}; }
  void Fork(int32_t id) {
    const int32_t copy = kv_.Fork(id);
    tokens_[copy] = tokens_[id];
  }
  void Truncate(int32_t id, int64_t n) {
    const int64_t kept = kv_.KeepableLength(id, n);
    for (size_t c = 0; kept > 0 && c < classes_.size(); ++c) {
      EXPECT_LE(kv_.table(id, c).first_position(), classes_[c].FirstSeen(n));
    }
    kv_.Truncate(id, kept);
    tokens_[id].resize(static_cast<size_t>(kept));
    if (kept < n) ++n_lost_;
  }
  void Remove(int32_t id) {
    kv_.Remove(id);
    tokens_.erase(id);
  }
  size_t size() const { return tokens_.size(); }
  int32_t id(size_t i) const { return std::next(tokens_.begin(), static_cast<int64_t>(i))->first; }
  int64_t length(int32_t id) const { return kv_.length(id); }

  // Every sequence reads what it wrote, as far as its next row sees and its pages go, and each page
  // is counted as often as it is used.
  void Check() {
    for (size_t c = 0; c < classes_.size(); ++c) {
      std::vector<int32_t> uses(static_cast<size_t>(classes_[c].n_pages), 0);
      for (const auto& [id, tokens] : tokens_) {
        const auto length = static_cast<int64_t>(tokens.size());
        ASSERT_EQ(kv_.length(id), length);
        const KvPageTable table = kv_.table(id, c);
        for (const int32_t page : table.pages) ++uses[static_cast<size_t>(page)];
        ASSERT_LE(table.first_position(), classes_[c].FirstSeen(length));
        ASSERT_GE(table.end_position(), length);
        for (int64_t p = table.first_position(); p < length; ++p) {
          ASSERT_EQ(At(id, c, p), tokens[static_cast<size_t>(p)])
              << "sequence " << id << ", position " << p << ", class " << c;
        }
      }
      int64_t n_free = 0;
      for (size_t page = 0; page < uses.size(); ++page) {
        ASSERT_EQ(kv_.pool(c).references(static_cast<int32_t>(page)), uses[page]);
        n_free += uses[page] == 0 ? 1 : 0;
      }
      ASSERT_EQ(kv_.pool(c).n_free(), n_free);
    }
  }
  int n_lost() const { return n_lost_; }

 private:
  int64_t& At(int32_t id, size_t page_class, int64_t position) {
    const int64_t slot = kv_.table(id, page_class).PageOf(position) * kKvPageTokens;
    return memory_[page_class][static_cast<size_t>(slot + position % kKvPageTokens)];
  }

  std::vector<KvPageClass> classes_;
  KvSequences kv_;
  std::vector<std::vector<int64_t>> memory_;  // of each class
  std::map<int32_t, std::vector<int64_t>> tokens_;
  int64_t next_ = 0;
  int n_lost_ = 0;  // rollbacks that kept nothing
};

// Returns how many rollbacks kept nothing.
int OperateAtRandom(std::span<const KvPageClass> classes, int n_operations) {
  std::mt19937 rng(5);
  const auto up_to = [&rng](int64_t n) {
    return static_cast<int64_t>(rng() % static_cast<uint64_t>(n + 1));
  };
  ModelOfPages model(classes);
  for (int i = 0; i < n_operations; ++i) {
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
    if (::testing::Test::HasFatalFailure()) {
      ADD_FAILURE() << "operation " << i;
      break;
    }
  }
  return model.n_lost();
}

TEST(KvPages, TenThousandRandomOperationsLeakNothing) {
  EXPECT_EQ(OperateAtRandom(OneClass(48), 10'000), 0);
}

TEST(KvWindows, RandomOperationsLeakNothing) {
  const std::vector<KvPageClass> classes = {
      {.n_pages = 160}, {.n_pages = 48, .window = 20}, {.n_pages = 64, .window = 77}};
  EXPECT_GT(OperateAtRandom(classes, 4'000), 10);
  EXPECT_GT(OperateAtRandom(std::span(classes).subspan(1), 4'000), 10);
}

}  // namespace
}  // namespace thermocline
