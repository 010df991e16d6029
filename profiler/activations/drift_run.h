// Runs texts of several kinds through a model for DriftSimulation.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "profiler/activations/drift.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/core/progress.h"
#include "runtime/engine/engine.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/pass/executor.h"

namespace thermocline {

// Notes which neurons are active, and hands whole tokens to simulations. Each layer lies on one
// tier.
class DriftObserver final : public FfnObserver {
 public:
  // All must outlive it. orders: ReadChannelOrders.
  DriftObserver(const ModelConfig& config, const ChannelOrders& orders, double activation_threshold,
                std::span<DriftSimulation> simulations);

  void OnFfn(const Lane& lane, const FfnObservation& observation) override;

 private:
  void NoteToken(const FfnObservation& observation, int64_t token);
  void HandOut(int64_t n_tokens);
  uint64_t* BitsOf(int64_t layer, int64_t token) {
    return bits_.data() + static_cast<size_t>(token * config_.n_layers + layer) * n_words_;
  }

  const ModelConfig& config_;
  const ChannelOrders& orders_;
  double activation_threshold_;
  std::span<DriftSimulation> simulations_;
  size_t n_words_;              // of a layer's neurons
  std::vector<uint64_t> bits_;  // (tokens of a pass, n_layers, n_words)
};

// A placement with the same share of every layer on the fast tier, in clusters, hottest in
// calibration first. share: from 0 to 1.
Placement HottestShare(const ProfileStats& stats, double share);

struct DriftOptions {
  int64_t max_tokens = 0;  // of each text; 0: all
  double activation_threshold = 0;
  ProgressFn progress;
};

// Feeds the texts to all of the simulations, in windows of the context. `engine` must run the whole
// model on one tier. Throws Error for a text that cannot be read, Interrupted between windows.
void RunDrift(Engine& engine, std::span<const std::string> text_paths, const DriftOptions& options,
              std::span<DriftSimulation> simulations);

}  // namespace thermocline
