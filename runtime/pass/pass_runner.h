// A way to run passes. There are three: threads of the host (host_runner.h), a device that works
// behind the host (queued_runner.h), and that device with the other tiers' weights streamed to it
// (streamed_runner.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/token_logit.h"
#include "runtime/pass/layer_ops.h"

namespace thermocline {

class PassRunner : public LayerTiers {
 public:
  // Embeds the rows, runs all layers and the head. REQUIRES: the context has begun the pass.
  virtual void RunAll(const Pass& pass) = 0;
  // x: (n, d_model) in host memory.
  virtual void Embed(const Pass& pass, float* x) = 0;
  // x = layers [pass.layer_begin, pass.layer_end) of x. REQUIRES as above.
  virtual void RunLayers(const Pass& pass, float* x) = 0;

  // state.logits [begin, begin + n), in host memory. Valid until the next call or pass.
  virtual std::span<const float> Logits(int64_t begin, int64_t n) = 0;
  // The first n of what a pass with wants_hidden left. Valid until the next pass.
  virtual std::span<const float> Hidden(int64_t n) = 0;
  // What a pass with n_best = k found in a row of those that wanted logits.
  // REQUIRES: max_best() > 0.
  virtual int64_t max_best() const = 0;
  virtual std::vector<TokenLogit> Best(int64_t row, int64_t k) const = 0;

  // Where the passes' time goes on the fast tier, if the host's clocks do not see it.
  virtual void TimePasses(bool on) = 0;
  virtual void AddTimes(PassProfile* profile) = 0;
};

}  // namespace thermocline
