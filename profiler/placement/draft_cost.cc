#include "profiler/placement/draft_cost.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/speculate/speculator.h"

namespace thermocline {
namespace {

constexpr int64_t kMostDrafted[] = {1, 2, 3, 4, 6, 7, 8, 12, 16, 24, 32, 64};
// What a draft is expected to bring bears on how far it goes, and that on what it brings.
constexpr int kTurnsToSettle = 6;

// Sums over the verifying passes of all texts.
struct Walked {
  int64_t n_turns = 0;
  int64_t n_drafted = 0;
  int64_t n_draft_passes = 0;
  int64_t n_computed = 0;  // tokens that draft passes are shared out over, as Speculator does
  int64_t n_written = 0;
  int64_t n_drafts = 0;  // turns in which something was drafted, and what was written in them
  int64_t n_written_by_drafts = 0;
  double verify_ms = 0;
};

class ChainWalk {
 public:
  ChainWalk(const DraftChains& chains, const DraftingTimes& times, std::vector<double> least)
      : chains_(chains), times_(times), least_(std::move(least)) {}

  Walked Go() {
    Walked unused;
    for (Walked* walked : {&unused, &walked_}) {  // what is known of the draft is learnt first
      for (int64_t text = 0; text < chains_.n_texts; ++text) {
        Confidence of_text(&all_);
        int64_t at = 0;
        while (at < chains_.n_positions()) at += Turn(text, at, &of_text, walked);
      }
    }
    return walked_;
  }

 private:
  // Drafts behind a position and verifies. Returns the tokens that the text got.
  int64_t Turn(int64_t text, int64_t position, Confidence* of_text, Walked* walked) {
    const auto chain = static_cast<size_t>(text * chains_.n_positions() + position);
    const float* const certainty = &chains_.certainty[chain * static_cast<size_t>(chains_.depth)];
    double chance = 1;
    size_t n = 0;
    // A token is computed before it is known how certain it is.
    while (n < least_.size() && chance >= least_[n]) {
      ++walked->n_draft_passes;
      const double with_it = chance * of_text->Of(0, certainty[n]);
      if (with_it < least_[n]) break;
      chance = with_it;
      ++n;
    }
    const auto accepted = std::min(n, static_cast<size_t>(chains_.accepted[chain]));
    for (size_t i = 0; i < std::min(n, accepted + 1); ++i) {
      of_text->Learn(0, certainty[i], i < accepted);
      all_.Learn(0, certainty[i], i < accepted);
    }
    ++walked->n_turns;
    walked->n_drafted += static_cast<int64_t>(n);
    walked->n_computed += std::max<int64_t>(1, static_cast<int64_t>(n));
    walked->n_written += static_cast<int64_t>(accepted) + 1;
    walked->verify_ms += times_.verify_ms[n];
    if (n > 0) {
      ++walked->n_drafts;
      walked->n_written_by_drafts += static_cast<int64_t>(accepted) + 1;
    }
    return static_cast<int64_t>(accepted) + 1;
  }

  const DraftChains& chains_;
  const DraftingTimes& times_;
  std::vector<double> least_;  // by the tokens that a draft has already
  Confidence all_;
  Walked walked_;
};

}  // namespace

LayerSplits SplitsOf(const OpenedModel& model) {
  LayerSplits splits;
  const Placement* const placement = model.placement();
  for (int64_t l = 0; l < model.config().n_layers; ++l) {
    if (placement == nullptr) {
      splits.n_hot.push_back(model.config().d_ff_of(l));
      continue;
    }
    const LayerPlacement& own = placement->layers[static_cast<size_t>(l)];
    splits.orders.push_back(own.neuron_order);
    splits.n_hot.push_back(own.n_on[kVram]);
  }
  if (placement != nullptr) splits.away = AttendsAway(*placement);
  return splits;
}

DraftingTimes TimesOfDrafting(const OpenedModel& model, const ProfileStats& stats,
                              const MachineRates& rates, const PassShape& shape,
                              const LayerSplits& splits, const DraftFile* draft, int64_t most) {
  DraftingTimes times;
  for (int64_t n = 0; n <= most; ++n) {
    PassShape verify = shape;
    verify.rows = n + 1;
    verify.verify = n > 0;
    const CostModel cost(model, stats, splits.orders, rates, verify);
    times.verify_ms.push_back(cost.Pass(splits.n_hot, splits.away).total_ms());
    if (n == 0 && draft != nullptr) times.draft_ms = cost.Draft(*draft).total_ms();
  }
  return times;
}

DraftPrediction PredictChains(const DraftChains& chains, const DraftingTimes& times,
                              int64_t max_drafted, double least_chance) {
  CHECK(!chains.empty());
  max_drafted = std::min(max_drafted, chains.depth);
  CHECK(max_drafted >= 1 && max_drafted < std::ssize(times.verify_ms));
  const double plain_ms = times.plain_ms();
  DraftPrediction prediction;
  double gain = 1;
  double ms_per_drafted = times.draft_ms;
  for (int turn = 0; turn < kTurnsToSettle; ++turn) {
    std::vector<double> least;
    for (int64_t n = 1; n <= max_drafted; ++n) {
      const double row_ms =
          (times.verify_ms[static_cast<size_t>(n)] - plain_ms) / static_cast<double>(n);
      least.push_back(
          std::max(least_chance, LeastChanceWorth(gain / plain_ms, ms_per_drafted, row_ms)));
    }
    const Walked walked = ChainWalk(chains, times, std::move(least)).Go();
    const auto n_turns = static_cast<double>(walked.n_turns);
    const double draft_ms = times.draft_ms * static_cast<double>(walked.n_draft_passes);
    prediction = {.max_drafted = max_drafted,
                  .n_drafted = static_cast<double>(walked.n_drafted) / n_turns,
                  .n_draft_passes = static_cast<double>(walked.n_draft_passes) / n_turns,
                  .draft_ms = draft_ms / n_turns,
                  .verify_ms = walked.verify_ms / n_turns,
                  .tokens_per_pass = static_cast<double>(walked.n_written) / n_turns};
    if (walked.n_drafts > 0) {
      prediction.tokens_per_draft =
          static_cast<double>(walked.n_written_by_drafts) / static_cast<double>(walked.n_drafts);
    }
    gain = std::max(1.0, plain_ms / prediction.ms_per_token());
    ms_per_drafted = draft_ms / static_cast<double>(walked.n_computed);
  }
  return prediction;
}

std::vector<DraftPrediction> PredictDrafting(const DraftChains& chains,
                                             const DraftingTimes& times) {
  std::vector<DraftPrediction> predictions = {{.verify_ms = times.plain_ms()}};
  for (const int64_t most : kMostDrafted) {
    if (most > chains.depth || most >= std::ssize(times.verify_ms)) break;
    predictions.push_back(PredictChains(chains, times, most));
  }
  return predictions;
}

DraftedSplit SplitForDrafting(const OpenedModel& model, const ProfileStats& stats,
                              const MachineRates& rates, const PassShape& shape,
                              const Budgets& budgets) {
  const DraftFile* const draft = model.draft();
  CHECK(draft != nullptr && !draft->chains.empty());
  DraftedSplit split;
  for (int64_t more = CeilDiv(draft->d_ff, kClusterNeurons); more >= 0; --more) {
    Placement placement = PlacementOfDraft(*draft, /*on_one_tier=*/false);
    for (LayerPlacement& layer : placement.layers) {
      layer.n_on[kVram] = std::min(draft->d_ff, layer.n_on[kVram] + more * kClusterNeurons);
      layer.n_on[kDram] = draft->d_ff - layer.n_on[kVram];
    }
    const MemoryPlan plan = model.PlanOf(&placement);
    split.fast_bytes = plan.total_bytes(0);
    split.slow_bytes = plan.total_bytes(1);
    split.fits = split.fast_bytes <= budgets.vram_bytes && split.slow_bytes <= budgets.ram_bytes;
    if (!split.fits) continue;
    for (LayerPlacement& layer : placement.layers) {
      split.splits.orders.push_back(std::move(layer.neuron_order));
      split.splits.n_hot.push_back(layer.n_on[kVram]);
    }
    break;
  }
  if (!split.fits) return split;
  split.times =
      TimesOfDrafting(model, stats, rates, shape, split.splits, draft, draft->chains.depth);
  split.predictions = PredictDrafting(draft->chains, split.times);
  return split;
}

const DraftPrediction& BestOf(std::span<const DraftPrediction> predictions) {
  CHECK(!predictions.empty());
  return *std::ranges::min_element(predictions, {}, &DraftPrediction::ms_per_token);
}

}  // namespace thermocline
