// Which layers share pages, how many pages each class has, and where a cache keeps them.
#include "runtime/device/kv_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

#include "runtime/device/kv_cache.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;

ModelConfig WindowedConfig(const std::vector<int64_t>& windows) {
  ModelConfig config;
  config.n_layers = static_cast<int64_t>(windows.size());
  config.n_heads = 4;
  config.n_kv_heads = 1;
  config.head_dim = 256;
  config.d_model = 1152;
  config.d_ff = 32;
  config.MakeLayersEqual();
  for (size_t l = 0; l < windows.size(); ++l) config.layers[l].attention.window = windows[l];
  return config;
}

// Gemma 3: a window in five layers, and none in the sixth.
ModelConfig GemmaLike(int64_t n_layers, int64_t window) {
  std::vector<int64_t> windows;
  for (int64_t l = 0; l < n_layers; ++l) windows.push_back(l % 6 == 5 ? 0 : window);
  return WindowedConfig(windows);
}

std::vector<int64_t> PagesOf(const KvLayout& layout) {
  std::vector<int64_t> n_pages;
  for (const KvPageClass& pages : layout.classes) n_pages.push_back(pages.n_pages);
  return n_pages;
}

TEST(KvLayout, AWindowInFiveOfSixLayersLeavesASixthAndABoundedPart) {
  const ModelConfig config = GemmaLike(30, 1024);
  for (const int64_t context : {32768, 131072}) {
    const KvLayout layout = MakeKvLayout(config, {.context_tokens = context, .batch_tokens = 512});
    EXPECT_EQ(layout.n_layers(0), 5);
    EXPECT_EQ(layout.n_layers(1), 25);
    EXPECT_EQ(layout.classes[1].window, 1024);
    // The window, the slack, two at the ends, a batch: whatever the context is.
    EXPECT_THAT(PagesOf(layout), ElementsAre(context / 32, 32 + 4 + 2 + 16));
    const uint64_t bounded = HostKvCache::Bytes(config, DType::kF16, layout);
    const uint64_t full =
        HostKvCache::Bytes(config, DType::kF16, MakeKvLayout(config, context / 32));
    EXPECT_EQ(bounded, full / 6 + uint64_t{25} * 2 * 54 * 32 * 256 * 2);
    EXPECT_LT(static_cast<double>(bounded),
              static_cast<double>(full) * (context == 32768 ? 0.22 : 0.19));
  }
}

TEST(KvLayout, AWindowThatSavesNothingCountsAsNone) {
  const ModelConfig config = GemmaLike(6, 1024);
  const KvRoom all = {.context_tokens = 1024, .batch_tokens = 512};
  EXPECT_THAT(PagesOf(MakeKvLayout(config, all)), ElementsAre(32));
  const KvRoom little_more = {.context_tokens = 54 * 32, .batch_tokens = 512};
  EXPECT_THAT(PagesOf(MakeKvLayout(config, little_more)), ElementsAre(54));
  const KvRoom more = {.context_tokens = 55 * 32, .batch_tokens = 512};
  EXPECT_THAT(PagesOf(MakeKvLayout(config, more)), ElementsAre(55, 54));
  KvRoom keeps = more;
  keeps.keeps_all = true;
  EXPECT_THAT(PagesOf(MakeKvLayout(config, keeps)), ElementsAre(55));
}

TEST(KvLayout, SequencesShareTheBatch) {
  const KvRoom room = {.context_tokens = 4096, .batch_tokens = 512, .n_sequences = 8};
  EXPECT_EQ(WindowPages(256, room), 8 * (8 + 4 + 2) + 16);
  EXPECT_EQ(WindowPages(4096, room), 8 * 128);
  EXPECT_EQ(WindowPages(4095, room), 8 * 128) << "no more than the contexts";
}

TEST(KvLayout, EveryWindowIsAClassAndEveryLayerHasAPlace) {
  const KvRoom room = {.context_tokens = 8192, .batch_tokens = 32};
  const KvLayout layout = MakeKvLayout(WindowedConfig({100, 0, 500, 100, 9000, 0}), room);
  ASSERT_EQ(layout.classes.size(), 3U);
  EXPECT_EQ(layout.classes[0].window, 0);
  EXPECT_EQ(layout.classes[1].window, 100);
  EXPECT_EQ(layout.classes[2].window, 500);
  std::vector<std::vector<int64_t>> places;
  for (const KvLayerPlace& place : layout.layers) {
    places.push_back({static_cast<int64_t>(place.page_class), place.layer});
  }
  EXPECT_THAT(places, ElementsAre(ElementsAre(1, 0), ElementsAre(0, 0), ElementsAre(2, 0),
                                  ElementsAre(1, 1), ElementsAre(0, 1), ElementsAre(0, 2)));
  // All layers with one window: nothing keeps all.
  const KvLayout mistral = MakeKvLayout(WindowedConfig({100, 100}), room);
  EXPECT_THAT(PagesOf(mistral), ElementsAre(4 + 4 + 2 + 1));
}

// The last two layers read what the first two have; one of them sees all.
TEST(KvLayout, ALayerThatOthersReadKeepsWhatTheySee) {
  const KvRoom room = {.context_tokens = 8192, .batch_tokens = 32};
  ModelConfig config = WindowedConfig({100, 0, 100, 200});
  config.layers[2].attention.kv_layer = 1;
  config.layers[3].attention.kv_layer = 0;
  const KvLayout layout = MakeKvLayout(config, room);
  ASSERT_EQ(layout.layers.size(), 2U);
  EXPECT_EQ(layout.classes[layout.ClassOf(0)].window, 200);
  EXPECT_EQ(layout.classes[layout.ClassOf(1)].window, 0);
  config.layers[3].attention.window = 0;
  EXPECT_EQ(MakeKvLayout(config, room).classes.size(), 1U);
}

// Runs of all layers, heads and pages lie apart, keys and values too, and are all the memory.
TEST(HostKvCacheTest, NoTwoPagesShareMemory) {
  ModelConfig config = WindowedConfig({40, 0, 40});
  config.n_kv_heads = 2;
  const KvRoom room = {.context_tokens = 640, .batch_tokens = 8};
  const HostKvCache cache(config, DType::kQ8_0, MakeKvLayout(config, room));
  const KvLayout& layout = cache.layout();
  std::set<const std::byte*> begins;
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      for (int32_t page = 0; page < layout.classes[layout.ClassOf(layer)].n_pages; ++page) {
        const KvPageTable table{7, {&page, 1}};
        const KvRun run = cache.RunAt(layer, head, table, 7 * kKvPageTokens, 100);
        EXPECT_EQ(run.n_tokens, kKvPageTokens);
        begins.insert(run.k);
        begins.insert(run.v);
      }
    }
  }
  const int64_t page_bytes = kKvPageTokens * RowBytes(DType::kQ8_0, 256);
  const std::byte* last = nullptr;
  for (const std::byte* begin : begins) {
    if (last != nullptr) {
      EXPECT_EQ(begin - last, page_bytes);
    }
    last = begin;
  }
  EXPECT_EQ(begins.size() * static_cast<size_t>(page_bytes), cache.allocated_bytes());
}

TEST(HostKvCacheTest, APageIsCopiedWithinItsClassAlone) {
  const ModelConfig config = WindowedConfig({40, 0, 40});
  HostKvCache cache(config, DType::kF16,
                    MakeKvLayout(config, KvRoom{.context_tokens = 640, .batch_tokens = 8}));
  const auto value_at = [&](int64_t layer, int32_t page, bool values) {
    const KvRun run = cache.RunAt(layer, 0, {0, {&page, 1}}, 31, 1);
    return values ? run.v : run.k;
  };
  for (int64_t layer = 0; layer < 3; ++layer) {
    *value_at(layer, 2, false) = static_cast<std::byte>(10 + layer);
    *value_at(layer, 2, true) = static_cast<std::byte>(20 + layer);
  }
  cache.CopyPage({.from = 2, .to = 5, .page_class = 1});
  for (const int64_t layer : {0, 2}) {
    EXPECT_EQ(*value_at(layer, 5, false), static_cast<std::byte>(10 + layer));
    EXPECT_EQ(*value_at(layer, 5, true), static_cast<std::byte>(20 + layer));
  }
  EXPECT_EQ(*value_at(1, 5, false), std::byte{0});
  EXPECT_EQ(*value_at(1, 5, true), std::byte{0});
}

TEST(HostKvCacheTest, APositionIsCopiedAlone) {
  const ModelConfig config = WindowedConfig({40, 0, 40});
  HostKvCache cache(config, DType::kF16,
                    MakeKvLayout(config, KvRoom{.context_tokens = 640, .batch_tokens = 8}));
  const std::vector<int32_t> pages = {3, 1};
  const KvPageTable table{0, pages};
  const auto run_at = [&](int64_t layer, int64_t position) {
    return cache.RunAt(layer, 0, table, position, 1);
  };
  const int64_t row_bytes = RowBytes(DType::kF16, config.head_dim);
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t position = 29; position < 36; ++position) {
      const auto value = static_cast<unsigned char>(10 * layer + position);
      std::memset(run_at(layer, position).k, value, static_cast<size_t>(row_bytes));
      std::memset(run_at(layer, position).v, value + 100, static_cast<size_t>(row_bytes));
    }
  }
  EXPECT_EQ(table.SlotOf(35), kKvPageTokens + 3);
  cache.CopyPosition({.from = table.SlotOf(35), .to = table.SlotOf(30), .page_class = 1});
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t position = 29; position < 36; ++position) {
      const int64_t from = position == 30 && layer != 1 ? 35 : position;
      const auto expected = static_cast<std::byte>(10 * layer + from);
      const auto expected_v = static_cast<std::byte>(10 * layer + from + 100);
      for (int64_t i : {int64_t{0}, row_bytes - 1}) {
        EXPECT_EQ(run_at(layer, position).k[i], expected) << layer << " " << position;
        EXPECT_EQ(run_at(layer, position).v[i], expected_v) << layer << " " << position;
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
