// How good a draft is, measured on text that it was not made from: how likely its tokens are to be
// accepted by the whole model, one token ahead and deeper.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "profiler/drafts/draft_build.h"
#include "runtime/engine/engine.h"
#include "runtime/placement/draft_file.h"
#include "runtime/speculate/draft_tree.h"
#include "runtime/stand_ins/draft_pass.h"

namespace thermocline {

// One drafted token behind a text that the whole model has read. p: what the model gives the next
// token, q: what the draft gives it.
struct DraftAcceptance {
  int64_t n_positions = 0;
  double sampled = 0;    // mean of sum min(p, q): of a token drawn from q, as Leviathan accepts
  double agreement = 0;  // share in which both rank the same token first
};

// What a chain of drafted tokens comes to, and a tree of as many.
struct DraftDepth {
  int64_t n_chains = 0;  // and trees
  // By depth: the share of the chains whose tokens are accepted up to there, likeliest tokens
  // against the model's (greedy), and drawn ones by rejection sampling.
  std::vector<double> greedy;
  std::vector<double> sampled;
  // By tokens of a tree, from 1 on: how many of its likeliest tokens are accepted, in the mean.
  std::vector<double> tree;

  // The mean number of accepted tokens of chains of this depth.
  static double Length(std::span<const double> accepted, int64_t depth);
};

// Held-out windows whose positions from the middle of each window on are scored.
class DraftMeter {
 public:
  // The engine has room for a window and n_forks sequences beside it (MeterOptions). Windows must
  // outlive the meter.
  DraftMeter(Engine& engine, const DraftTexts& windows, int64_t n_forks);

  DraftAcceptance Measure(DraftPass& draft);
  // Chains, and trees of up to `tree_width` tokens behind each, from every stride-th of these
  // positions. seed: of what is drawn.
  DraftDepth MeasureDepth(DraftPass& draft, int64_t depth, int64_t stride, uint64_t seed,
                          int64_t tree_width = kUsualWidth);
  static constexpr int64_t kUsualWidth = 3;
  // Chains of this depth behind each of so many positions of texts that the model writes greedily,
  // without ending them: one behind the beginning of each window, of at most so many windows.
  // REQUIRES: windows of one length, 1 <= n_positions < that; the engine was opened for chains of
  // this depth.
  DraftChains MeasureChains(DraftPass& draft, int64_t max_texts, int64_t n_positions,
                            int64_t depth);

 private:
  struct Learnt {
    Confidence all;
    Confidence text{&all};
  };
  // Adds what is accepted of trees behind these positions of the window that was fed.
  // learnt: how far the draft is right, of texts before and of this one, as a Speculator has it.
  void MeasureTrees(DraftPass& draft, const std::vector<int32_t>& window,
                    std::span<const int64_t> positions, int64_t width, Learnt* learnt,
                    DraftDepth* result);
  // Grows the trees behind sequences to which their tokens have not been fed.
  void Grow(DraftPass& draft, std::span<const int32_t> forks, std::span<const int32_t> tokens,
            std::span<DraftTree> trees);
  // Feeds a window to the main sequence. Returns the model's logits after each of its tokens.
  std::span<const float> FeedWindow(const std::vector<int32_t>& window);
  // Sequences that have the first `lengths` tokens of the main one.
  std::vector<int32_t> Fork(std::span<const int64_t> lengths);
  void Remove(std::span<const int32_t> forks);

  Engine& engine_;
  const DraftTexts& windows_;
  int64_t n_forks_;
};

// What an engine must be opened with to build and measure drafts: windows of so many tokens,
// chains of up to so many.
void SetMeterOptions(int64_t window_tokens, int64_t n_forks, int64_t max_depth,
                     EngineOptions* options);

// sum over tokens of min(softmax(p), softmax(q)).
double Overlap(std::span<const float> p_logits, std::span<const float> q_logits);

}  // namespace thermocline
