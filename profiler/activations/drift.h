// How a placement covers texts that it was not made from, one after another, and what is gained
// where neurons move between the tiers by the executor's policy (runtime/moves).
//
// Coverage is the share of activations (a token and a neuron active in it) that fall on the fast
// tier. Three are compared, which hold equally many neurons of every layer there: the placement as
// it is, the one that moves, and for each text the best that one could have chosen knowing it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/moves/move_policy.h"
#include "runtime/placement/placement.h"

namespace thermocline {

// Which neurons of a layer are active in a token: bit i of word i / 64 is neuron i's.
using ActiveBits = std::span<const uint64_t>;
inline size_t ActiveWords(int64_t d_ff) { return static_cast<size_t>((d_ff + 63) / 64); }

struct DriftedText {
  std::string name;
  int64_t n_tokens = 0;
  double activations = 0;
  // Of these, what falls on the fast tier.
  double fixed = 0;
  double moving = 0;
  double best = 0;
  int64_t n_swaps = 0;  // while it was read

  void Add(const DriftedText& other);
  // What the fixed placement loses to the best one, and the share of it that moving brings back;
  // nothing is lost where it is 0.
  double Lost() const { return best - fixed; }
  double Recovered() const { return Lost() > 0 ? (moving - fixed) / Lost() : 0; }
};

class DriftSimulation {
 public:
  // Layers with neurons on one tier alone stay out of it. Swaps are made at once.
  DriftSimulation(int64_t d_ff, const Placement& placement, const MoveOptions& options);

  // What comes from here on is another text.
  void BeginText(const std::string& name);
  // A token: (n_layers) by layer.
  void OnToken(std::span<const ActiveBits> layers);
  // The texts so far, in their order.
  std::vector<DriftedText> Texts() const;

 private:
  struct Layer {
    int64_t n_fast = 0;
    bool moves = false;
    std::vector<int32_t> order;        // of the placement that moves
    std::vector<uint8_t> is_fixed;     // (d_ff) on the fast tier in the placement as it is
    std::vector<uint8_t> is_fast;      // (d_ff) on the fast tier now
    std::vector<uint32_t> fired;       // (d_ff) since the layer's last turn
    std::vector<int64_t> text_counts;  // (d_ff) in this text
    int64_t seen_tokens = 0;           // at its last turn
  };

  void Count(Layer* layer, ActiveBits active);
  void TakeTurn(int64_t index);
  void EndText();

  MovePolicy policy_;
  std::vector<Layer> layers_;
  std::vector<DriftedText> texts_;
  int64_t n_tokens_ = 0;
};

}  // namespace thermocline
