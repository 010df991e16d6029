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

// Makes a class of every distinct window, without pages yet.
KvLayout GroupLayers(std::span<const int64_t> windows) {
  std::vector<int64_t> distinct(windows.begin(), windows.end());
  std::ranges::sort(distinct);
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  KvLayout layout;
  for (const int64_t window : distinct) layout.classes.push_back({.window = window});
  std::vector<int64_t> n_layers(distinct.size());
  for (const int64_t window : windows) {
    const auto c =
        static_cast<size_t>(std::ranges::lower_bound(distinct, window) - distinct.begin());
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
  std::vector<int64_t> windows = WindowsOf(config);
  const bool keeps_all = room.keeps_all || config.has_encoder();
  for (int64_t& window : windows) {
    const bool saves = !keeps_all && window > 0 && WindowPages(window, room) < ContextPages(room);
    if (!saves) window = 0;
  }
  KvLayout layout = GroupLayers(windows);
  // With an encoder a sequence has a second text.
  const int64_t n_texts = config.has_encoder() ? 2 : 1;
  for (KvPageClass& page_class : layout.classes) {
    page_class.n_pages = page_class.window == 0 ? n_texts * ContextPages(room)
                                                : WindowPages(page_class.window, room);
  }
  return layout;
}

KvLayout MakeKvLayout(const ModelConfig& config, int64_t n_pages) {
  KvLayout layout = GroupLayers(std::vector<int64_t>(static_cast<size_t>(config.n_kv_layers()), 0));
  layout.classes.front().n_pages = n_pages;
  return layout;
}

}  // namespace thermocline
