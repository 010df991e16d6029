// Chooses how many neurons of each layer go to the fast tier. This first solver fills the fast
// tier's budget with the clusters of 32 neurons that bring most activations per byte; what is left
// must fit the slow tier.
//
// What a tier holds besides weights of neurons (attention, KV cache, scratch) depends on the
// largest share a layer has in it, since the FFN's buffers are sized for that layer. So the filling
// is done for a number of limits on the shares, with what a tier needs for that limit set aside,
// and the best one wins. That keeps the budgets by construction, and more of either never means
// less coverage: every filling alone has that property where the benefits of a layer do not
// increase (the first cluster that fits into one more byte takes the last byte with it and is worth
// more than all that could have stood there).
//
// Neurons may take more on one tier than on the other, in every layer by the same factor; where the
// factors differ, budgets are kept as well, but more VRAM may then mean less coverage where RAM is
// what limits it.
//
// A layer may have to lie on one tier whole. It is one cluster then, and has nothing on the fast
// tier where that does not fit.
//
// With clusters of one size in all layers the result is optimal up to the grid of limits (every
// cluster up to 64 of them per layer); otherwise it misses at most what the first cluster that did
// not fit would have brought.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace thermocline {

struct SolverLayer {
  std::vector<int64_t> benefit;  // (d_ff) benefit of each neuron, in placement order; not negative
  uint64_t fast_neuron_bytes = 1;  // of one neuron, where it lies on the fast tier
  uint64_t slow_neuron_bytes = 1;
  bool whole = false;  // all neurons lie on one tier
};

struct SolverProblem {
  int64_t d_ff = 0;
  std::vector<SolverLayer> layers;
  // What a tier holds besides neurons when no layer has more than max_hot in it; not decreasing.
  std::function<uint64_t(int64_t max_hot)> fast_fixed_bytes;
  std::function<uint64_t(int64_t max_cold)> slow_fixed_bytes;
  uint64_t vram_bytes = 0;
  uint64_t ram_bytes = 0;
};

enum class SolverOutcome : uint8_t { kSolved, kVramTooSmall, kRamTooSmall };

struct SolverResult {
  SolverOutcome outcome = SolverOutcome::kVramTooSmall;
  std::vector<int64_t> n_hot;  // (n_layers) when solved
  int64_t benefit = 0;         // of the hot neurons
  // For kVramTooSmall and kRamTooSmall: the least budget that works (for RAM, beside this VRAM
  // budget).
  uint64_t least_bytes = 0;
};

SolverResult SolvePlacementSizes(const SolverProblem& problem);

}  // namespace thermocline
