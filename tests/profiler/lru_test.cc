#include "profiler/activations/lru.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

namespace thermocline {
namespace {

using Keys = std::vector<int32_t>;

TEST(LruSetTest, TheKeyUsedLongestAgoLeaves) {
  LruSet set(10, 3);
  for (const int32_t key : {1, 2, 3}) set.Touch(key);
  set.Touch(1);  // 2 is the oldest now
  set.Touch(4);
  EXPECT_TRUE(set.Contains(1) && set.Contains(3) && set.Contains(4));
  EXPECT_FALSE(set.Contains(2));
  EXPECT_EQ(set.size(), 3);
}

TEST(LruSetTest, CapacityOfNothingHoldsNothing) {
  LruSet set(4, 0);
  set.Touch(2);
  EXPECT_FALSE(set.Contains(2));
  EXPECT_EQ(set.size(), 0);
}

TEST(LruSetTest, CapacityOfOneAndOfAll) {
  LruSet one(4, 1);
  for (const int32_t key : {0, 3, 3, 1}) one.Touch(key);
  EXPECT_TRUE(one.Contains(1));
  EXPECT_FALSE(one.Contains(3));
  LruSet all(4, 4);
  for (const int32_t key : {0, 3, 1, 2, 0, 3}) all.Touch(key);
  for (int32_t key = 0; key < 4; ++key) EXPECT_TRUE(all.Contains(key));
}

// A deque that is searched from the front: slow and plain.
class PlainLru {
 public:
  explicit PlainLru(size_t capacity) : capacity_(capacity) {}
  bool Contains(int32_t key) const {
    return std::find(keys_.begin(), keys_.end(), key) != keys_.end();
  }
  void Touch(int32_t key) {
    const auto found = std::find(keys_.begin(), keys_.end(), key);
    if (found != keys_.end()) keys_.erase(found);
    keys_.push_front(key);
    if (keys_.size() > capacity_) keys_.pop_back();
  }

 private:
  size_t capacity_;
  std::deque<int32_t> keys_;
};

TEST(LruSetTest, AgreesWithAPlainOneOnRandomAccesses) {
  std::mt19937 random(7);
  for (const int64_t capacity : {1, 2, 5, 16, 40}) {
    LruSet set(40, capacity);
    PlainLru plain(static_cast<size_t>(capacity));
    for (int i = 0; i < 4000; ++i) {
      // Keys are skewed, so that there are hits and misses.
      const auto key = static_cast<int32_t>(std::min(random() % 40, random() % 40));
      ASSERT_EQ(set.Contains(key), plain.Contains(key)) << capacity << " " << i;
      set.Touch(key);
      plain.Touch(key);
    }
  }
}

TEST(LruBaselineTest, ATokenFindsOnlyWhatEarlierTokensLeft) {
  LruBaseline lru(8, {2, 8});
  lru.OnToken(0, Keys{1, 2});
  EXPECT_EQ(lru.hits(0), 0);
  lru.OnToken(0, Keys{1, 2});
  EXPECT_EQ(lru.hits(0), 2);
  EXPECT_EQ(lru.lookups(0), 4);
  EXPECT_EQ(lru.lookups(1), 0);
}

TEST(LruBaselineTest, LookupsComeBeforeInsertions) {
  LruBaseline lru(8, {2});
  lru.OnToken(0, Keys{5, 6});
  // 1 and 2 would push 5 and 6 out before their turn, were they inserted one by one.
  lru.OnToken(0, Keys{1, 2, 5, 6});
  EXPECT_EQ(lru.hits(0), 2);
}

TEST(LruBaselineTest, OfMoreActiveNeuronsThanFitTheLastStay) {
  LruBaseline lru(8, {2});
  lru.OnToken(0, Keys{0, 1, 2, 3});
  lru.OnToken(0, Keys{0, 1});  // gone
  EXPECT_EQ(lru.hits(0), 0);
  LruBaseline again(8, {2});
  again.OnToken(0, Keys{0, 1, 2, 3});
  again.OnToken(0, Keys{2, 3});
  EXPECT_EQ(again.hits(0), 2);
}

TEST(LruBaselineTest, NoActiveNeuronsAndNoCache) {
  LruBaseline lru(8, {0});
  lru.OnToken(0, Keys{});
  EXPECT_EQ(lru.lookups(0), 0);
  lru.OnToken(0, Keys{3});
  lru.OnToken(0, Keys{3});
  EXPECT_EQ(lru.hits(0), 0);
  EXPECT_EQ(lru.lookups(0), 2);
}

}  // namespace
}  // namespace thermocline
