// Which pages texts find, and which go when there are too few. No model: a page is its number.
#include "runtime/schedule/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace thermocline {
namespace {

std::vector<int32_t> TextOf(int seed, size_t n) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 1000);
  return ids;
}

std::vector<int32_t> Joined(std::vector<int32_t> first, const std::vector<int32_t>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// Fills a sequence with n tokens, as passes do.
void Grow(KvSequences& kv, int32_t sequence, int64_t n) {
  std::vector<KvPageCopy> copies;
  while (n > 0) {
    const int64_t part = std::min<int64_t>(n, 24);
    kv.Reserve(sequence, part, &copies);
    kv.Advance(sequence, part);
    n -= part;
  }
}

class Pages {
 public:
  explicit Pages(std::vector<KvPageClass> classes) : kv(classes), cache(kv) {}

  // Has a text fed and kept, and its sequence removed.
  std::vector<int32_t> Keep(const std::vector<int32_t>& ids, const TextKind& kind = {}) {
    const int32_t sequence = kv.Add();
    PrefixCache::Place place;
    for (size_t n = 0; n < ids.size(); n += 24) {
      Grow(kv, sequence, static_cast<int64_t>(std::min<size_t>(24, ids.size() - n)));
      cache.Keep(kind, ids, sequence, &place);
    }
    const std::span<const int32_t> pages = kv.table(sequence).pages;
    std::vector<int32_t> held(pages.begin(), pages.end());
    kv.Remove(sequence);
    return held;
  }
  int64_t Find(const std::vector<int32_t>& ids, const TextKind& kind = {}) {
    return cache.Find(kind, ids, static_cast<int64_t>(ids.size()) - 1);
  }

  KvSequences kv;
  PrefixCache cache;
};

TEST(PrefixCache, FindsWholePagesOfTheLongestBeginning) {
  Pages pages({{64, 0}});
  const std::vector<int32_t> text = TextOf(1, 100);
  const std::vector<int32_t> held = pages.Keep(text);
  EXPECT_EQ(pages.Find(text), 96);
  EXPECT_EQ(pages.Find(Joined(text, TextOf(2, 50))), 96);
  EXPECT_EQ(pages.Find({text.begin(), text.begin() + 97}), 96);
  // The last token must be fed, so that something is known about what follows.
  EXPECT_EQ(pages.Find({text.begin(), text.begin() + 96}), 64);
  EXPECT_EQ(pages.Find({text.begin(), text.begin() + 31}), 0);
  std::vector<int32_t> other(text);
  other[40] = -1;
  EXPECT_EQ(pages.Find(other), 32);
  other[0] = -1;  // the same page behind another beginning is another page
  EXPECT_EQ(pages.Find(other), 0);

  PrefixCache::Place place;
  const int32_t sequence = pages.cache.TakeUp({}, text, 96, &place);
  EXPECT_EQ(pages.kv.length(sequence), 96);
  const auto taken = pages.kv.table(sequence).pages;
  EXPECT_TRUE(std::equal(taken.begin(), taken.end(), held.begin()));
  EXPECT_EQ(place.n_pages(), 3);
  Grow(pages.kv, sequence, 40);
  pages.cache.Keep({}, Joined({text.begin(), text.begin() + 96}, TextOf(9, 40)), sequence, &place);
  EXPECT_EQ(place.n_pages(), 4);
  EXPECT_EQ(pages.Find(Joined({text.begin(), text.begin() + 96}, TextOf(9, 40))), 128);
  EXPECT_EQ(pages.Find(text), 96);
}

TEST(PrefixCache, TextsOfAnotherKindShareNothing) {
  Pages pages({{64, 0}});
  const std::vector<int32_t> text = TextOf(1, 70);
  pages.Keep(text, {.adapter_set = 1, .salt = "a"});
  EXPECT_EQ(pages.Find(text, {.adapter_set = 1, .salt = "a"}), 64);
  EXPECT_EQ(pages.Find(text, {.adapter_set = 1, .salt = "b"}), 0);
  EXPECT_EQ(pages.Find(text, {.adapter_set = 0, .salt = "a"}), 0);
  EXPECT_EQ(pages.Find(text), 0);
}

TEST(PrefixCache, WhatWasNotUsedForLongestGoesFirstAndFromTheEnd) {
  Pages pages({{64, 0}});
  const std::vector<int32_t> first = TextOf(1, 97);
  const std::vector<int32_t> second = TextOf(2, 97);
  pages.Keep(first);
  pages.Keep(second);
  PrefixCache::Place place;  // and now the first one is the younger
  pages.kv.Remove(pages.cache.TakeUp({}, first, 96, &place));
  place = {};
  EXPECT_EQ(pages.cache.n_kept(0), 6);
  EXPECT_EQ(pages.kv.pool().n_free(), 58);
  // In the order in which a text is read, its first page was used before its last.
  std::vector<int64_t> left_of_second;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(pages.cache.DropOldest(0));
    left_of_second.push_back(pages.Find(second));
    EXPECT_EQ(pages.Find(first), 96);
  }
  EXPECT_EQ(left_of_second.back(), 0);
  EXPECT_TRUE(pages.cache.DropOldest(0));
  EXPECT_EQ(pages.Find(first), 64);  // its last page
  EXPECT_TRUE(pages.cache.DropOldest(0));
  EXPECT_TRUE(pages.cache.DropOldest(0));
  EXPECT_FALSE(pages.cache.DropOldest(0));
  EXPECT_EQ(pages.kv.pool().n_free(), 64);
}

TEST(PrefixCache, PagesThatARunningTextUsesStay) {
  Pages pages({{64, 0}});
  const std::vector<int32_t> text = TextOf(1, 97);
  pages.Keep(text);
  PrefixCache::Place place;
  const int32_t running = pages.cache.TakeUp({}, text, 64, &place);
  EXPECT_EQ(pages.cache.n_kept(0), 1);
  EXPECT_TRUE(pages.cache.DropOldest(0));
  EXPECT_FALSE(pages.cache.DropOldest(0));
  EXPECT_EQ(pages.Find(text), 64);
  pages.kv.Remove(running);
  EXPECT_EQ(pages.cache.n_kept(0), 2);
}

TEST(PrefixCache, ForgetsATextUpToWhereAnotherParts) {
  Pages pages({{64, 0}});
  const std::vector<int32_t> stem = TextOf(1, 64);
  const std::vector<int32_t> a = Joined(stem, TextOf(2, 70));
  const std::vector<int32_t> b = Joined(stem, TextOf(3, 70));
  pages.Keep(a);
  pages.Keep(b);
  pages.cache.Forget({}, a);
  EXPECT_EQ(pages.Find(a), 64);
  EXPECT_EQ(pages.Find(b), 128);
  pages.cache.Forget({}, b);
  EXPECT_EQ(pages.Find(b), 0);
  EXPECT_EQ(pages.kv.pool().n_free(), 64);
}

// With windows, a text can begin where every class has what the next row sees.
TEST(PrefixCache, WindowsNeedOnlyWhatIsSeen) {
  Pages pages({{64, 0}, {64, 40}});
  const std::vector<int32_t> text = TextOf(1, 300);
  pages.Keep(text);
  EXPECT_EQ(pages.Find(text), 288);
  PrefixCache::Place place;
  const int32_t sequence = pages.cache.TakeUp({}, text, 288, &place);
  EXPECT_EQ(pages.kv.table(sequence, 1).first_page, (288 + 1 - 40) / 32);
  EXPECT_EQ(pages.kv.table(sequence, 0).first_page, 0);
  pages.kv.Remove(sequence);
  place = {};
  // Without the window's last page the text can begin before it, and without all of its pages only
  // anew.
  while (pages.cache.DropOldest(1)) {
    const int64_t found = pages.Find(text);
    EXPECT_LE(found, 288);
  }
  EXPECT_EQ(pages.Find(text), 0);
  EXPECT_EQ(pages.kv.pool(1).n_free(), 64);
}

// Against a model of what is kept: whatever is kept, taken up and dropped, a text finds the pages
// that were filled for exactly its tokens.
TEST(PrefixCache, RandomTextsFindTheirOwnPages) {
  std::mt19937 random(7);
  Pages pages({{40, 0}});
  // What was written into a page: the tokens from the text's beginning to the page's end.
  std::map<int32_t, std::vector<int32_t>> written;
  int64_t n_found = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<int32_t> text;
    for (int part = 0; part < 4; ++part) {
      text = Joined(text, TextOf(static_cast<int>(random() % 3), 20 + random() % 20));
    }
    const int64_t n = pages.Find(text);
    n_found += n;
    PrefixCache::Place place;
    const int32_t sequence = pages.cache.TakeUp({}, text, n, &place);
    const auto taken = pages.kv.table(sequence).pages;
    for (size_t page = 0; page < taken.size(); ++page) {
      const std::vector<int32_t> expected(text.begin(),
                                          text.begin() + static_cast<int64_t>(page + 1) * 32);
      ASSERT_EQ(written.at(taken[page]), expected);
    }
    const auto missing = static_cast<int64_t>(text.size()) - n;
    while (pages.kv.PagesNeeded(sequence, missing) > pages.kv.pool().n_free()) {
      ASSERT_TRUE(pages.cache.DropOldest(0));
    }
    Grow(pages.kv, sequence, missing);
    const auto all = pages.kv.table(sequence).pages;
    for (size_t page = static_cast<size_t>(n) / 32; page < text.size() / 32; ++page) {
      written[all[page]] = {text.begin(), text.begin() + static_cast<int64_t>(page + 1) * 32};
    }
    pages.cache.Keep({}, text, sequence, &place);
    pages.kv.Remove(sequence);
  }
  EXPECT_GT(n_found, 2000);
  while (pages.cache.DropOldest(0)) {
  }
  EXPECT_EQ(pages.kv.pool().n_free(), 40);
}

}  // namespace
}  // namespace thermocline
