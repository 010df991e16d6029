// Pages of the KV cache that go to the host's memory and come back, and pages that are read once
// for all who share them: texts get the tokens that they get without.
#include "runtime/schedule/host_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "runtime/schedule/prefix_cache.h"
#include "tests/engine/twin_engines.h"
#include "tests/schedule/served.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

constexpr uint64_t kEnough = uint64_t{64} << 20;

// A cache of pages whose bytes say which they are, and a prefix cache with room in host memory.
class MovedPages : public ::testing::Test {
 protected:
  void Make(int64_t n_pages, uint64_t n_host_pages) {
    const ModelConfig& config = engine_.config();
    cache_ = std::make_unique<HostKvCache>(config, DType::kF16, MakeKvLayout(config, n_pages));
    kv_ = std::make_unique<KvSequences>(cache_->layout().classes);
    host_ = std::make_unique<HostPages>(*cache_, n_host_pages * cache_->PageBytes(0));
    prefixes_ = std::make_unique<PrefixCache>(*kv_, host_.get());
  }
  void TearDown() override { prefixes_.reset(); }

  static std::vector<int32_t> TextOf(int32_t seed, size_t n_pages) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < n_pages * kKvPageTokens; ++i) {
      ids.push_back(seed * 1000 + static_cast<int32_t>(i));
    }
    return ids;
  }
  void Fill(int32_t page, int32_t first_token) {
    std::vector<std::byte> bytes(cache_->PageBytes(0));
    for (size_t at = 0; at + 4 <= bytes.size(); at += 4) {
      std::memcpy(bytes.data() + at, &first_token, 4);
    }
    cache_->WritePage(0, page, bytes);
  }
  bool Holds(int32_t page, int32_t first_token) const {
    std::vector<std::byte> bytes(cache_->PageBytes(0));
    cache_->ReadPage(0, page, bytes);
    for (size_t at = 0; at + 4 <= bytes.size(); at += 4) {
      if (std::memcmp(bytes.data() + at, &first_token, 4) != 0) return false;
    }
    return true;
  }
  // Has a text fed and kept, making room as a scheduler does, and its sequence removed.
  void Keep(const std::vector<int32_t>& ids) {
    const auto n = static_cast<int64_t>(ids.size());
    while (kv_->pool().n_free() < KvPagesFor(n)) ASSERT_TRUE(prefixes_->DropOldest(0, true));
    const int32_t sequence = kv_->Add();
    std::vector<KvPageCopy> copies;
    kv_->Reserve(sequence, n, &copies);
    kv_->Advance(sequence, n);
    const auto pages = kv_->table(sequence).pages;
    for (size_t p = 0; p < pages.size(); ++p) Fill(pages[p], ids[p * kKvPageTokens]);
    PrefixCache::Place place;
    prefixes_->Keep({}, ids, sequence, &place);
    kv_->Remove(sequence);
  }
  int64_t Find(const std::vector<int32_t>& ids) {
    return prefixes_->Find({}, ids, static_cast<int64_t>(ids.size()));
  }
  int64_t BringBack(const std::vector<int32_t>& ids) {
    return prefixes_->BringBack({}, ids, Find(ids),
                                [&](size_t c) { return prefixes_->DropOldest(c, true); });
  }
  // Takes a text up, and looks at the bytes of its pages.
  void ExpectWhole(const std::vector<int32_t>& ids, int64_t n_tokens) {
    ASSERT_EQ(BringBack(ids), n_tokens);
    PrefixCache::Place place;
    const int32_t sequence = prefixes_->TakeUp({}, ids, n_tokens, &place);
    const auto pages = kv_->table(sequence).pages;
    for (size_t p = 0; p < pages.size(); ++p) {
      EXPECT_TRUE(Holds(pages[p], ids[p * kKvPageTokens])) << "page " << p;
    }
    kv_->Remove(sequence);
  }

  Engine engine_{SmallModel(1)};  // for its config
  std::unique_ptr<HostKvCache> cache_;
  std::unique_ptr<KvSequences> kv_;
  std::unique_ptr<HostPages> host_;
  std::unique_ptr<PrefixCache> prefixes_;
};

TEST_F(MovedPages, ComeBackWithWhatTheyHeld) {
  Make(/*n_pages=*/4, /*n_host_pages=*/16);
  const std::vector<std::vector<int32_t>> texts = {TextOf(1, 3), TextOf(2, 4), TextOf(3, 2)};
  for (const auto& text : texts) Keep(text);
  EXPECT_EQ(host_->counts().n_pages, 7 - 2);  // of the second text two pages are in the cache still
  for (int round = 0; round < 3; ++round) {
    for (const auto& text : texts) {
      EXPECT_EQ(Find(text), static_cast<int64_t>(text.size()));
      ExpectWhole(text, static_cast<int64_t>(text.size()));
    }
  }
  EXPECT_GE(host_->counts().n_back, 9);
  // A page whose copy is there already is not copied again: nine pages, each once at most.
  EXPECT_LE(host_->counts().n_out, 9);
  EXPECT_EQ(kv_->pool().n_pages(), 4);
  for (const auto& text : texts) prefixes_->Forget({}, text);
  EXPECT_EQ(host_->counts().bytes, 0U);
  EXPECT_EQ(kv_->pool().n_free(), 4);
}

TEST_F(MovedPages, TakeNoMoreOfTheHostThanTheyMay) {
  Make(/*n_pages=*/4, /*n_host_pages=*/5);
  std::vector<std::vector<int32_t>> texts;
  for (int32_t i = 1; i <= 6; ++i) {
    texts.push_back(TextOf(i, 3));
    Keep(texts.back());
    EXPECT_LE(host_->counts().bytes, host_->max_bytes());
  }
  // The last is in the cache, those before it in the host's memory, the first of them nowhere.
  EXPECT_EQ(Find(texts[5]), 96);
  EXPECT_EQ(Find(texts[4]), 96);
  EXPECT_EQ(Find(texts[0]), 0);
  for (int32_t i = 5; i >= 0; --i) {
    const auto& text = texts[static_cast<size_t>(i)];
    ExpectWhole(text, Find(text));
    EXPECT_LE(host_->counts().bytes, host_->max_bytes());
  }
}

TEST_F(MovedPages, WithoutRoomInTheCacheOnlyTheBeginningComesBack) {
  Make(/*n_pages=*/4, /*n_host_pages=*/8);
  const std::vector<int32_t> text = TextOf(1, 4);
  Keep(text);
  const int32_t other = kv_->Add();
  std::vector<KvPageCopy> copies;
  while (prefixes_->DropOldest(0, true)) {
  }
  kv_->Reserve(other, 2 * kKvPageTokens, &copies);
  kv_->Advance(other, 2 * kKvPageTokens);
  EXPECT_EQ(Find(text), 128);
  ExpectWhole(text, 64);
  kv_->Remove(other);
  ExpectWhole(text, 128);
}

// One slot, whose cache holds one text: two that take turns find what they had only in the host's
// memory.
TEST(HostPagesOfAScheduler, APrefixComesBackInsteadOfBeingReadAgain) {
  std::vector<std::vector<int32_t>> written;
  for (const uint64_t host_bytes : {uint64_t{0}, kEnough}) {
    Served served(SmallModel(1),
                  {.n_slots = 1, .kv_host_bytes = host_bytes, .kv_host_always = true});
    size_t i = 0;
    for (const int which : {1, 2, 1, 2, 1}) {
      const Collector::Text text = served.Run(GreedyRequest(PromptOf(which, 100), 20));
      if (i >= 2) {
        EXPECT_EQ(text.stats.cached_tokens, host_bytes > 0 ? 96 : 0) << "text " << i;
      }
      if (host_bytes == 0) {
        written.push_back(text.ids);
      } else {
        EXPECT_EQ(text.ids, written[i]) << "text " << i;
      }
      ++i;
    }
    const HostPageCounts counts = served.scheduler.stats().host_pages;
    EXPECT_EQ(counts.n_back > 0, host_bytes > 0);
  }
}

// Two texts of four pages each, and room for five: the younger one is sent away with two whole
// pages, of which the older one needs one.
TEST(HostPagesOfAScheduler, WhoIsSentAwayFindsHisPagesAgain) {
  int64_t fed_again[2] = {};
  std::vector<std::vector<int32_t>> written;
  for (const bool moves : {false, true}) {
    EngineOptions options = SmallModel(2);
    options.kv_tokens = 160;
    Served served(options,
                  {.n_slots = 2, .kv_host_bytes = moves ? kEnough : 0, .kv_host_always = true});
    std::vector<std::shared_ptr<Collector>> all;
    for (int i = 0; i < 2; ++i) all.push_back(served.Submit(GreedyRequest(PromptOf(i, 40), 80)));
    served.RunAll();
    EXPECT_EQ(served.scheduler.stats().n_preempted, 1);
    fed_again[moves ? 1 : 0] = served.scheduler.stats().tokens_again;
    for (size_t i = 0; i < all.size(); ++i) {
      const Collector::Text& text = all[i]->texts[0];
      EXPECT_EQ(text.reason, EndReason::kTokenLimit);
      if (moves) {
        EXPECT_EQ(text.ids, written[i]) << "text " << i;
      } else {
        written.push_back(text.ids);
      }
    }
  }
  EXPECT_GT(fed_again[0], kKvPageTokens);
  // Less than a page, which the cache never had whole.
  EXPECT_LE(fed_again[1], kKvPageTokens);
}

// Layers that see a window have pages of their own, of which a text needs only the last.
TEST(HostPagesOfAScheduler, PagesOfWindowsComeBackToo) {
  const TempDir dir;
  WriteWindowed(SmallModel(1).model_path, dir.file("windowed.gguf"), 40, /*pattern=*/2);
  std::vector<std::vector<int32_t>> written;
  for (const uint64_t host_bytes : {uint64_t{0}, kEnough}) {
    EngineOptions options = SmallModel(2, 1000);
    options.model_path = dir.file("windowed.gguf");
    options.kv_tokens = 1000;
    Served served(options, {.n_slots = 2, .kv_host_bytes = host_bytes, .kv_host_always = true});
    ASSERT_EQ(served.engine.sequences().n_classes(), 2U);
    size_t i = 0;
    int64_t n_cached = 0;
    for (const int which : {1, 2, 1, 2}) {
      const Collector::Text text = served.Run(GreedyRequest(PromptOf(which, 900), 20));
      n_cached += text.stats.cached_tokens;
      if (host_bytes == 0) {
        written.push_back(text.ids);
      } else {
        EXPECT_EQ(text.ids, written[i]) << "text " << i;
      }
      ++i;
    }
    if (host_bytes > 0) {
      EXPECT_EQ(n_cached, 2 * 896);
    }
  }
}

// The second prompt comes while the first is being read: what they share is read once.
TEST(SharedPrefix, IsReadOnceByWhoComesAtTheSameTime) {
  Served served(SmallModel(3), {.n_slots = 3});
  std::vector<std::shared_ptr<Collector>> all;
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 3; ++i) {
    prompts.push_back(PromptOf(1, 100));
    if (i > 0) std::ranges::copy(PromptOf(5 + i, 20), prompts.back().begin() + 80);
    all.push_back(served.Submit(GreedyRequest(prompts.back(), 8)));
  }
  served.RunAll();
  // The common 80 tokens are two pages and a half.
  EXPECT_EQ(served.scheduler.stats().prompt_tokens, 100 + 2 * 36);
  for (size_t i = 0; i < 3; ++i) {
    Served alone(SmallModel(1), {.n_slots = 1});
    EXPECT_EQ(all[i]->texts[0].ids, alone.Run(GreedyRequest(prompts[i], 8)).ids);
  }
}

// What the issue asks of 8 sequences over 2048 tokens.
TEST(SharedPrefix, EightTextsReadItsKeysAndValuesOnce) {
  const TempDir dir;
  WriteEdited(
      SmallModel(1).model_path, dir.file("long.gguf"),
      [](EditedFile& file) {
        const auto arch = std::get<std::string>(file.keys.at("general.architecture").value);
        file.keys[arch + ".context_length"] = GgufValue::u32(4096);
      },
      "GGUF");
  const auto bytes_of_a_pass = [&dir](int n_texts) {
    EngineOptions options = SmallModel(8, 2400);
    options.model_path = dir.file("long.gguf");
    options.kv_tokens = 2800;
    options.batch_tokens = 256;
    Served served(options, {.n_slots = 8});
    served.Run(GreedyRequest(PromptOf(1, 2081), 1));
    std::vector<std::shared_ptr<Collector>> all;
    for (int i = 0; i < n_texts; ++i) {
      std::vector<int32_t> prompt = PromptOf(1, 2052);
      prompt.back() = 3 + i;
      all.push_back(served.Submit(GreedyRequest(std::move(prompt), 12)));
    }
    // Until all of them are being written.
    const auto writing = [](const auto& text) { return text->texts[0].ids.size() > 1; };
    while (!std::ranges::all_of(all, writing)) served.scheduler.Step();
    const Executor::KvBytes before = served.scheduler.stats().kv_bytes;
    served.scheduler.Step();
    const Executor::KvBytes after = served.scheduler.stats().kv_bytes;
    return std::pair(static_cast<double>(after.read - before.read),
                     static_cast<double>(after.unshared - before.unshared));
  };
  const auto [one, one_unshared] = bytes_of_a_pass(1);
  const auto [eight, eight_unshared] = bytes_of_a_pass(8);
  EXPECT_EQ(one, one_unshared);
  EXPECT_NEAR(eight_unshared, 8 * one, 0.01 * eight_unshared);
  EXPECT_LE(eight, 1.3 * one);
  std::cout << "eight texts read " << eight / one << " times the bytes of one\n";
}

}  // namespace
}  // namespace thermocline
