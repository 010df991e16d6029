#include "runtime/device/kv_layout.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

int64_t ContextPages(const KvRoom& room) {
  const int64_t of_contexts = room.n_sequences * KvPagesFor(room.context_tokens);
  return room.all_tokens == 0 ? of_contexts : std::min(of_contexts, KvPagesFor(room.all_tokens));
}

// Returns how far back the readers of each layer of the cache see; 0: all before.
std::vector<int64_t> WindowsOf(const ModelConfig& config) {
  std::vector<int64_t> windows(static_cast<size_t>(config.n_kv_layers()), -1);
  for (int64_t l = config.n_encoder_layers; l < config.n_layers; ++l) {
    int64_t& widest = windows[static_cast<size_t>(config.kv_layer(l))];
    const int64_t own = config.layer(l).attention.window;
    widest = widest == 0 || own == 0 ? 0 : std::max(widest, own);
  }
  return windows;
}

// Returns the tier of each layer of the cache.
std::vector<size_t> TiersOf(const ModelConfig& config, const KvRoom& room) {
  std::vector<size_t> tiers(static_cast<size_t>(config.n_kv_layers()), 0);
  if (room.tiers.empty()) return tiers;
  CHECK(static_cast<int64_t>(room.tiers.size()) == config.n_layers);
  for (int64_t l = config.n_encoder_layers; l < config.n_layers; ++l) {
    tiers[static_cast<size_t>(config.kv_layer(l))] = room.tiers[static_cast<size_t>(l)];
  }
  for (int64_t l = config.n_encoder_layers; l < config.n_layers; ++l) {
    CHECK(tiers[static_cast<size_t>(config.kv_layer(l))] == room.tiers[static_cast<size_t>(l)]);
  }
  return tiers;
}

// Who shares a class.
struct ClassKey {
  size_t tier;
  int64_t window;
  bool operator==(const ClassKey&) const = default;
  bool operator<(const ClassKey& other) const {
    return tier != other.tier ? tier < other.tier : window < other.window;
  }
};

// Makes a class of every distinct key, without pages yet.
KvLayout GroupLayers(std::span<const ClassKey> keys) {
  std::vector<ClassKey> distinct(keys.begin(), keys.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  KvLayout layout;
  for (const ClassKey& key : distinct) {
    layout.classes.push_back({.window = key.window, .tier = key.tier});
  }
  std::vector<int64_t> n_layers(distinct.size());
  for (const ClassKey& key : keys) {
    const auto c = static_cast<size_t>(std::lower_bound(distinct.begin(), distinct.end(), key) -
                                       distinct.begin());
    layout.layers.push_back({c, n_layers[c]++});
  }
  return layout;
}

}  // namespace

int64_t KvLayout::n_layers(size_t page_class) const {
  return std::ranges::count(layers, page_class, &KvLayerPlace::page_class);
}

int64_t WindowPages(int64_t window, const KvRoom& room) {
  CHECK(window > 0);
  const int64_t of_context = ContextPages(room);
  if (window >= room.context_tokens) return of_context;
  const int64_t of_sequence = KvPagesFor(window) + kKvSlackPages + 2;
  return std::min(of_context, room.n_sequences * of_sequence + KvPagesFor(room.batch_tokens));
}

KvLayout MakeKvLayout(const ModelConfig& config, const KvRoom& room) {
  const std::vector<int64_t> windows = WindowsOf(config);
  const std::vector<size_t> tiers = TiersOf(config, room);
  const bool keeps_all = room.keeps_all || config.has_encoder();
  std::vector<ClassKey> keys;
  for (size_t l = 0; l < windows.size(); ++l) {
    const int64_t window = windows[l];
    const bool saves = !keeps_all && window > 0 && WindowPages(window, room) < ContextPages(room);
    keys.push_back({tiers[l], saves ? window : 0});
  }
  KvLayout layout = GroupLayers(keys);
  // With an encoder a sequence has a second text.
  const int64_t n_texts = config.has_encoder() ? 2 : 1;
  for (KvPageClass& page_class : layout.classes) {
    page_class.n_pages = page_class.window == 0 ? n_texts * ContextPages(room)
                                                : WindowPages(page_class.window, room);
  }
  return layout;
}

KvLayout MakeKvLayout(const ModelConfig& config, int64_t n_pages) {
  KvLayout layout =
      GroupLayers(std::vector<ClassKey>(static_cast<size_t>(config.n_kv_layers()), {0, 0}));
  layout.classes.front().n_pages = n_pages;
  return layout;
}

}  // namespace thermocline
