// Counts which neurons are active while the executor runs a text.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "profiler/activations/lru.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/engine/engine.h"
#include "runtime/model/model.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/pass/executor.h"

namespace thermocline {

// Returns ||w_down,i||_2 of every neuron, in the matrix's order. `down` lies in host memory.
std::vector<double> DownNorms(const TensorView& down, DownLayout layout);
// Returns the norms of the file's matrices, by channel: (n_layers) of (d_ff). Throws Interrupted.
std::vector<std::vector<double>> ChannelNorms(const OpenedModel& model,
                                              const ChannelOrders& orders);

class ActivationCounter final : public FfnObserver {
 public:
  // norms: ChannelNorms. `orders` must outlive the counter.
  ActivationCounter(const ModelConfig& config, std::vector<std::vector<double>> norms,
                    const ChannelOrders& orders, double activation_threshold);

  // Has each layer count neurons as active above a threshold of its own: (n_layers).
  void set_thresholds(std::vector<double> thresholds) { thresholds_ = std::move(thresholds); }

  // Counts into *split from now on (sizes it when it is empty). With an `lru` its caches see every
  // token, too, which needs each layer to lie on one tier, in file order.
  void CountInto(SplitActivity* split, LruBaseline* lru);

  // Sums the squares of what the matrices read from now on, too (sizes *squares when it is empty);
  // null: no more. REQUIRES: an engine opened with watch_attention, each layer on one tier.
  void SumSquaresInto(std::vector<LayerInputSquares>* squares);

  void OnFfn(const Lane& lane, const FfnObservation& observation) override;

 private:
  const int32_t* ChannelsOf(const FfnObservation& observation) const;
  void CountNeurons(const FfnObservation& observation, int64_t begin, int64_t end);
  void SumSquares(const Lane& lane, const FfnObservation& observation);
  void FeedLru(const FfnObservation& observation);
  bool IsActive(int64_t layer, float h) const;

  const ModelConfig& config_;
  const ChannelOrders& orders_;
  std::vector<double> thresholds_;  // (n_layers)
  const std::vector<std::vector<double>> norms_;
  SplitActivity* split_ = nullptr;
  LruBaseline* lru_ = nullptr;
  std::vector<LayerInputSquares>* squares_ = nullptr;
  std::vector<int32_t> active_;  // active neurons of the token that the caches are seeing
};

// Two observers, one after the other.
class ObserverPair final : public FfnObserver {
 public:
  ObserverPair(FfnObserver* first, FfnObserver* second) : first_(first), second_(second) {}
  void OnFfn(const Lane& lane, const FfnObservation& observation) override {
    first_->OnFfn(lane, observation);
    if (second_ != nullptr) second_->OnFfn(lane, observation);
  }

 private:
  FfnObserver* first_;
  FfnObserver* second_;  // null: none
};

// Watches the executor while it lives.
class ScopedObserver {
 public:
  ScopedObserver(Executor& executor, FfnObserver* observer) : executor_(executor) {
    executor_.set_observer(observer);
  }
  ~ScopedObserver() { executor_.set_observer(nullptr); }
  ScopedObserver(const ScopedObserver&) = delete;
  ScopedObserver& operator=(const ScopedObserver&) = delete;

 private:
  Executor& executor_;
};

}  // namespace thermocline
