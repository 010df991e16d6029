// How a KV cache is laid out for a model: which layers share a class of pages, and how many pages
// each class has. A class without a window keeps all positions of a context. One with a window
// keeps what a sequence's next rows can see, so that its size is bounded whatever the context is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/device/kv_pages.h"
#include "runtime/model/model.h"

namespace thermocline {

// Where the keys and values of a layer lie.
struct KvLayerPlace {
  size_t page_class = 0;
  int64_t layer = 0;  // of the class
};

struct KvLayout {
  // By tier, and of a tier all positions first, then by their windows, ascending.
  std::vector<KvPageClass> classes;
  std::vector<KvLayerPlace> layers;  // of the cache (ModelConfig::kv_layer)

  const KvLayerPlace& PlaceOf(int64_t layer) const { return layers[static_cast<size_t>(layer)]; }
  size_t ClassOf(int64_t layer) const { return PlaceOf(layer).page_class; }
  int64_t n_layers(size_t page_class) const;
};

// What a cache must have room for.
struct KvRoom {
  int64_t context_tokens = 0;  // of a sequence
  int64_t batch_tokens = 1;    // of a pass, all sequences together
  int64_t n_sequences = 1;
  bool keeps_all = false;  // also positions that no layer sees any more
  int64_t all_tokens = 0;  // of all sequences together; 0: a context for each
  // (n_layers of the model) the tier on which each attends; empty: the first.
  std::vector<size_t> tiers = {};
};

// A layer that others read, too, is in the class of who looks back farthest. A window that would
// not make a class smaller counts as none, and so do all in a model with an encoder, whose text
// takes pages of all layers. REQUIRES: layers that read another's keys and values attend on its
// tier; with an encoder, all attend on one.
KvLayout MakeKvLayout(const ModelConfig& config, const KvRoom& room);

// n_pages pages of all layers, which keep all positions.
KvLayout MakeKvLayout(const ModelConfig& config, int64_t n_pages);

// Pages of a class whose layers see a window, for sequences of which each holds its window, the
// slack behind it, and part of a batch: a page more where it begins, and one where it ends, since
// neither needs to fall on a page's end. At most what the contexts take.
int64_t WindowPages(int64_t window, const KvRoom& room);

}  // namespace thermocline
