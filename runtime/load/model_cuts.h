// From thresholds of a profile to what a loaded model leaves out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/device/channel_cuts.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/threshold_file.h"

namespace thermocline {

class ModelCuts {
 public:
  // weights: as they are loaded. orders: ReadChannelOrders of the file. Everything referenced must
  // outlive the cuts. Nothing is left out until Set or Choose.
  ModelCuts(ModelThresholds thresholds, const ModelConfig& config, const ModelWeights& weights,
            const ChannelOrders& orders, int64_t max_tokens);

  // Takes a choice for all layers. Throws Error where its split was not searched.
  void Choose(const ThresholdChoice& choice, ThresholdSplit split);
  // Has each matrix of a layer skip a share of its own, by a method of kPathMethods.
  void Set(int64_t layer, ThresholdMethod method, const MatrixShares& shares);

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

 private:
  using Floats = std::vector<float>;
  // A layer's numbers by channel in the order of a tier's neurons.
  Floats InOrderOf(int64_t layer, size_t tier, const Floats& by_channel) const;
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
};

}  // namespace thermocline
