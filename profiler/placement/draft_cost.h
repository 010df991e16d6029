// What drafting is expected to bring: the time of a pass that drafts, of the pass that verifies by
// its rows, and from how far drafts are right, as it was measured, how many tokens that gives.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "profiler/placement/cost_model.h"
#include "profiler/placement/placement_problem.h"
#include "runtime/placement/draft_file.h"
#include "runtime/speculate/speculator.h"

namespace thermocline {

// Where a model's neurons lie.
struct LayerSplits {
  std::vector<std::vector<int32_t>> orders;  // (n_layers), or empty: as in the file
  std::vector<int64_t> n_hot;                // (n_layers) on the fast tier
  std::vector<uint8_t> away;  // (n_layers) attends on the slow tier; empty: none does
};
// As a model was opened.
LayerSplits SplitsOf(const OpenedModel& model);

struct DraftingTimes {
  double draft_ms = 0;            // of a pass that drafts a token
  std::vector<double> verify_ms;  // by drafted tokens; of none, a plain pass

  double plain_ms() const { return verify_ms.front(); }
};

// Times of a model's passes of up to `most` drafted tokens. shape: of a plain token. draft: null
// where something else drafts, whose time the caller adds. REQUIRES: as CostModel; the draft fits
// the model, and the orders are its.
DraftingTimes TimesOfDrafting(const OpenedModel& model, const ProfileStats& stats,
                              const MachineRates& rates, const PassShape& shape,
                              const LayerSplits& splits, const DraftFile* draft, int64_t most);

// Drafting with at most so many tokens at a time, in the mean of a pass of the whole model, whether
// it has something to verify or not.
struct DraftPrediction {
  int64_t max_drafted = 0;  // 0: plain decoding
  double n_drafted = 0;
  double n_draft_passes = 0;  // one may find that its token is not worth a row
  double n_pauses = 0;        // of a text
  double draft_ms = 0;        // of all draft passes
  double verify_ms = 0;
  double tokens_per_pass = 1;
  double tokens_per_draft = 1;  // the same of passes that have something to verify

  double ms_per_token() const { return (draft_ms + verify_ms) / tokens_per_pass; }
};

// Writes the texts that chains were drafted behind once more, one after the other, by a Speculator
// that begins knowing nothing, as that of a run does. options: max_tokens is cut to the chains'
// depth. extend: by n-grams, as a run does unless it is told not to.
// REQUIRES: chains that are not empty, with ids where they are extended; times for max_tokens.
DraftPrediction PredictChains(const DraftChains& chains, const DraftingTimes& times,
                              SpeculateOptions options, bool extend);
// By the most tokens that are drafted, plain decoding first.
std::vector<DraftPrediction> PredictDrafting(const DraftChains& chains, const DraftingTimes& times,
                                             bool extend);
// The split that drafting wants: the draft's hot neurons and stand-ins on the fast tier, and of
// what is left there more neurons, the same number of each layer, which verifying reads.
struct DraftedSplit {
  bool fits = false;        // else only what the fast tier would have to hold
  uint64_t fast_bytes = 0;  // of all that lies there, the cache and scratch included
  uint64_t slow_bytes = 0;
  LayerSplits splits;
  DraftingTimes times;
  std::vector<DraftPrediction> predictions;  // PredictDrafting
  std::vector<DraftPrediction> extended;     // by n-grams; empty: the draft has no texts' ids
};
// model: opened with the draft, which has chains and hot neurons. shape: of a plain token.
// REQUIRES: as TimesOfDrafting.
DraftedSplit SplitForDrafting(const OpenedModel& model, const ProfileStats& stats,
                              const MachineRates& rates, const PassShape& shape,
                              const Budgets& budgets);

// The one that takes the least time. REQUIRES: not empty.
const DraftPrediction& BestOf(std::span<const DraftPrediction> predictions);

}  // namespace thermocline
