// Whoever watches the FFNs (the profiler).
#pragma once

#include <cstdint>

#include "runtime/model/model.h"
#include "runtime/threads/team.h"

namespace thermocline {

// What one tier computed of one layer's FFN, and what the layer's other matrices read.
struct FfnObservation {
  int64_t layer = 0;
  int64_t n_tokens = 0;
  const FfnSlice* slice = nullptr;  // which neurons
  const float* h = nullptr;         // (n_tokens, slice->n_neurons)
  const float* up = nullptr;  // (n_tokens, slice->n_neurons) in a gated FFN: h is act(gate) up
  const float* x = nullptr;   // (n_tokens, d_model) what the FFN read: normalised
  const float* attended = nullptr;  // (n_tokens, q_dim of the layer) what attention's output read
  // (n_tokens, d_model) what q, k and v read; null unless ExecutorOptions::keep_attention_input.
  const float* attention_x = nullptr;
};

class FfnObserver {
 public:
  virtual ~FfnObserver() = default;
  // Collective, after the FFN of a layer: every lane calls it and may do a part; it must not return
  // before h was read by all (a Sync at the end does).
  virtual void OnFfn(const Lane& lane, const FfnObservation& observation) = 0;
};

}  // namespace thermocline
