// The weights of a draft: those of a model that lie on the fast tier, as they are, and stand-ins
// for the rest.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/device/device.h"
#include "runtime/engine/engine.h"
#include "runtime/model/model.h"
#include "runtime/placement/draft_file.h"

namespace thermocline {

// Returns the first n neurons of a slice.
FfnSlice FirstNeurons(const FfnSlice& slice, int64_t n);

class DraftWeights {
 public:
  // All layers leave their neurons out. Attention, norms and head are the engine's, shared with it.
  // It must outlive the weights.
  explicit DraftWeights(Engine& engine);

  // Makes them that again.
  void Clear();
  // Takes over a draft: its stand-ins are copied to the fast tier. REQUIRES: it fits the model, and
  // the engine's placement (CheckDraftPlacement) where it has hot neurons.
  void Store(const DraftFile& file);
  // Has a layer use a draft's where it lies, which must stay there. REQUIRES: a fast tier of the
  // host; the same of the placement.
  void Use(int64_t l, const DraftLayer& layer);
  void UseReplacements(const DraftFile& file);

  const ModelWeights& weights() const { return weights_; }

 private:
  struct Placing;
  void Put(int64_t l, const DraftLayer& layer, const Placing& placing);
  void Replace(const DraftReplacement& other, const Placing& placing);

  Engine& engine_;
  ModelWeights weights_;
};

}  // namespace thermocline
