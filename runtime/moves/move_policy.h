// Which neurons change places between the fast and the slow tier, by how often they fired of late.
// It knows counts alone, so that the executor's mover and the profiler's simulation share it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/moves/heat.h"
#include "runtime/placement/placement.h"

namespace thermocline {

struct MoveOptions {
  double half_life_tokens = 256;        // of what is known of a neuron
  int64_t warm_up_tokens = 128;         // of a layer, before anything in it moves
  int64_t tokens_between = 1;           // from one layer's turn to the next one's
  int64_t max_swaps = kClusterNeurons;  // of a layer's turn: a cluster for a cluster
  // A swap must bring this many standard deviations of the difference between the two shares, so
  // that chance moves nothing.
  double deviations = 2;
  // And this share of the tokens, so that it pays for its copies (LeastDifference).
  double least_difference = 0.01;
};

// What a swap costs and brings.
struct MoveCosts {
  double neuron_bytes = 0;      // that cross in each direction
  double active_bytes = 0;      // that a token reads of an active neuron, and not of another
  double link_bytes_per_s = 0;  // between the tiers
  double slow_bytes_per_s = 0;  // the slow tier's rate
  double fast_bytes_per_s = 0;  // the fast tier's
};
// A swap pays for its copies within so many tokens.
inline constexpr double kPayBackTokens = 1024;
// Returns by which share of the tokens the neuron of the slow tier must be the more active one for
// that; above 1 where it never pays.
double LeastDifference(const MoveCosts& costs, double pay_back_tokens = kPayBackTokens);

// Two neurons that change places, by their positions in the layer's order.
struct NeuronSwap {
  int64_t fast;
  int64_t slow;
  bool operator==(const NeuronSwap&) const = default;
};

class MovePolicy {
 public:
  // Positions [0, n_fast) of a layer's order lie on the fast tier, the n_slow behind them on the
  // slow one. Layers without one of the two keep what they have.
  struct Layer {
    int64_t n_fast = 0;
    int64_t n_slow = 0;

    bool Moves() const { return n_fast > 0 && n_slow > 0; }
    int64_t n_neurons() const { return n_fast + n_slow; }
  };
  MovePolicy(std::span<const Layer> layers, const MoveOptions& options);

  // Counts tokens. NextLayer returns the layer whose turn it then is; -1: none's.
  void CountTokens(int64_t n_tokens) { tokens_ += n_tokens; }
  int64_t NextLayer(int64_t n_tokens);
  // Takes what fired of a layer since its last turn, by position: (n_neurons), in n_tokens tokens.
  // Returns the swaps, the best first, and expects them to be made.
  std::vector<NeuronSwap> Turn(int64_t layer, std::span<const uint32_t> fired, int64_t n_tokens);

  const HeatCounters& heat(int64_t layer) const { return heat_[static_cast<size_t>(layer)]; }
  const MoveOptions& options() const { return options_; }
  // Whether enough is known of a layer to tell its neurons apart.
  bool IsWarm(int64_t layer) const;

 private:
  bool Pays(double slow_share, double fast_share, double weight) const;

  MoveOptions options_;
  std::vector<Layer> layers_;
  std::vector<HeatCounters> heat_;
  std::vector<int64_t> moving_;  // layers that have both tiers
  size_t next_ = 0;              // of moving_
  int64_t tokens_ = 0;           // since the last turn
};

}  // namespace thermocline
