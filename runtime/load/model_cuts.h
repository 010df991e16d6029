// From thresholds of a profile to what a loaded model leaves out.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/device/channel_cuts.h"
#include "runtime/device/device.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/threshold_file.h"

namespace thermocline {

class ModelCuts {
 public:
  // weights: as they are loaded on `tiers`. orders: ReadChannelOrders of the file. Everything
  // referenced must outlive the cuts. Nothing is left out until Set or Choose.
  ModelCuts(ModelThresholds thresholds, const ModelConfig& config, const ModelWeights& weights,
            const ChannelOrders& orders, int64_t max_tokens, std::span<Device* const> tiers);
  // Bytes that a method's factors take in the memory of a device of its own, for the plan.
  static uint64_t FactorBytes(const ModelConfig& config, ThresholdMethod method);

  // Takes a choice for all layers. Throws Error where its split was not searched.
  void Choose(const ThresholdChoice& choice, ThresholdSplit split);
  // Has each matrix of a layer skip a share of its own, by a method of kPathMethods; in `to`, which
  // MakeCuts made, or where that is null in cuts(). With several `to` threads may do so at a time.
  void Set(int64_t layer, ThresholdMethod method, const MatrixShares& shares,
           ChannelCuts* to = nullptr);
  // Cuts of the same layers for another executor, which leave nothing out. max_tokens: of its
  // passes.
  std::unique_ptr<ChannelCuts> MakeCuts(int64_t max_tokens);

  ThresholdChoice choice() const { return choice_; }
  const ModelThresholds& thresholds() const { return thresholds_; }
  // For who searches: paths and shares of layers may change, and magnitudes may not.
  ModelThresholds& mutable_thresholds() { return thresholds_; }
  ChannelCuts* cuts() { return &cuts_; }

  // Returns the share of a matrix that was read, of rows that were cut; 1 where nothing is cut.
  // matrix: kActivated for up and down of a method by gate.
  double ShareRead(const ChannelCounts& counts, size_t layer, CutMatrix matrix) const;
  // Returns the share that was skipped of the weights of all matrices that the choice is for.
  double ShareSkipped(const ChannelCounts& counts) const;
  // The same of q, k, v and o, of gate and up, and of down; nothing where the choice is not for
  // them.
  struct PartShares {
    std::optional<double> attention, gate_up, down;
  };
  PartShares SharesSkipped(const ChannelCounts& counts) const;

 private:
  using Floats = std::vector<float>;
  void Bind(ChannelCuts* cuts, int64_t max_tokens);
  // A layer's numbers by channel in the order of a tier's neurons.
  Floats InOrderOf(int64_t layer, size_t tier, const Floats& by_channel) const;
  // Factors in the memory of the tier's device.
  const float* FactorsOn(size_t tier, const Floats& factors);
  // Of the matrices [first, end); nothing where the choice is for none of them.
  std::optional<double> SkippedOf(const ChannelCounts& counts, size_t first, size_t end) const;
  bool IsCut(size_t layer, CutMatrix matrix) const;
  void SetGates(int64_t layer, ThresholdMethod method, double share);

  ModelThresholds thresholds_;
  const ModelConfig& config_;
  const ModelWeights& weights_;
  const ChannelOrders& orders_;
  ChannelCuts cuts_;
  ThresholdChoice choice_;
  std::vector<std::vector<Floats>> down_norms_;    // (n_layers) by tier
  std::vector<std::vector<Floats>> gate_weights_;  // (n_layers) by tier
  std::vector<Device*> tiers_;
  // What was copied to devices with memory of their own, by tier and where it came from.
  std::map<std::pair<size_t, const float*>, const float*> copied_;
  // Counts of what another tier counts, too: all of them read the same channels of x.
  std::atomic<int64_t> ignored_{0};
};

}  // namespace thermocline
