// The FFN of a layer over the tiers: each computes its neurons where they lie, all at once, and the
// results are added.
#pragma once

#include <cstdint>

#include "runtime/pass/layer_ops.h"

namespace thermocline {

class TierFfn {
 public:
  explicit TierFfn(PassContext& context) : context_(context) {}

  // By every lane: FfnTarget += the FFN of all tiers. A tier for which the lane's thread has no
  // lane is for other threads: those in this call, or those in RunSlowTier.
  void Run(const Lanes& lanes, int64_t layer, const Pass& pass);
  // Another tier's part, from one hand-over to the other; by the lanes of that tier. REQUIRES: the
  // layer has neurons there.
  void RunSlowTier(const Lane& lane, size_t tier, int64_t layer, const Pass& pass);
  // The fast tier's own part alone, into its y. REQUIRES as above.
  void RunFastTier(const Lane& lane, int64_t layer, const Pass& pass);
  // FfnTarget += the fast tier's y.
  void AddFast(const Lane& lane, int64_t layer, const Pass& pass);

 private:
  // n: rows of the pass.
  FfnOp MakeOp(int64_t layer, size_t tier, int64_t n) const;
  void RunTier(const Lane& lane, size_t tier, const FfnOp& op, const float* x, int64_t n);

  PassContext& context_;
};

}  // namespace thermocline
