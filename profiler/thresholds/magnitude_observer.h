// Measures how large what a model's matrices read is, while the executor runs a text.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/activations/profile_run.h"
#include "runtime/engine/opened_model.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/pass/ffn_observer.h"
#include "runtime/placement/threshold_file.h"

namespace thermocline {

class MagnitudeObserver final : public ProfileRun::Watcher {
 public:
  // Reads the norms of the model's matrices. `model` and `orders` must outlive it.
  MagnitudeObserver(const OpenedModel& model, const ChannelOrders& orders);

  // A text begins: its first kUncutPositions positions are not counted, as they are never cut.
  void BeginText() override;
  // REQUIRES: an engine opened with watch_attention, each layer on one tier, in file order.
  void OnFfn(const Lane& lane, const FfnObservation& seen) override;

  // What was measured, without paths. The observer has nothing more to say.
  ModelThresholds Take(int64_t n_tokens);

 private:
  void ReadNorms(int64_t layer);
  // Norms by channel of the matrix's input.
  std::vector<double> InputNorms(const TensorView& w) const;
  void AddGates(size_t layer, const FfnObservation& seen, int64_t first, bool weighed);

  const OpenedModel& model_;
  const ChannelOrders& orders_;
  ModelThresholds thresholds_;
  // (n_layers) of down's columns and gate_weights, in the file's order.
  std::vector<std::vector<float>> down_norms_;
  std::vector<std::vector<float>> gate_weights_;
  std::vector<int64_t> positions_;  // (n_layers) of the next pass's first row
};

}  // namespace thermocline
