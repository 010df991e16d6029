#include "profiler/placement/draft_cost.h"

#include <algorithm>

#include "profiler/placement/recorded_draft.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/sampling/sampler.h"
#include "runtime/speculate/extended_draft.h"
#include "runtime/speculate/speculator.h"

namespace thermocline {
namespace {

constexpr int64_t kMostDrafted[] = {1, 2, 3, 4, 6, 7, 8, 12, 16, 24, 32, 64};

// A Speculator's texts written again, as Generator writes them: the tokens are known, and passes
// take what they are said to take.
class ChainReplay {
 public:
  ChainReplay(const DraftChains& chains, const DraftingTimes& times,
              const SpeculateOptions& options, bool extend)
      : chains_(chains),
        times_(times),
        texts_(chains),
        draft_(chains, texts_, times.draft_ms),
        extended_(&draft_),
        speculator_(extend ? static_cast<DraftSource&>(extended_) : draft_, options,
                    texts_.vocab_size(), [this] { return draft_.passed_ms(); }) {}

  const SpeculateStats& Run() {
    for (int64_t text = 0; text < chains_.n_texts; ++text) {
      draft_.set_text(text);
      speculator_.Forget(0);
      for (int64_t at = 0; at < chains_.n_positions();) at += Turn(texts_.Of(text), at);
    }
    return speculator_.stats();
  }

 private:
  // Drafts behind a position and verifies. Returns the tokens that the text got.
  int64_t Turn(std::span<const int32_t> text, int64_t position) {
    const auto n_ids = static_cast<size_t>(texts_.n_prompt() + position);
    const SpeculatedText asked{
        .ids = text.first(n_ids), .sampler = &greedy_, .most = chains_.depth, .draws = false};
    const std::vector<DraftTree> trees = speculator_.Draft({&asked, 1});
    const DraftTree& tree = trees.front();
    speculator_.MeasurePass(trees, 0, times_.verify_ms[tree.nodes().size()]);
    int64_t n_written = 0;
    int32_t last = DraftTree::kText;
    for (int32_t next = last; next != DraftTree::kNothing; ++n_written) {
      last = next;
      next = tree.ChildWith(last, text[n_ids + static_cast<size_t>(n_written)]);
    }
    speculator_.Verified(0, tree, last, /*tested=*/true, n_written);
    return n_written;
  }

  const DraftChains& chains_;
  const DraftingTimes& times_;
  RecordedTexts texts_;
  RecordedDraft draft_;
  ExtendedDraft extended_;
  Speculator speculator_;
  Sampler greedy_{SamplerOptions{.temperature = 0}};
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
                              SpeculateOptions options, bool extend) {
  CHECK(!chains.empty() && (!extend || chains.has_ids()));
  options.max_tokens = std::min(options.max_tokens, chains.depth);
  options.max_children = 1;
  CHECK(options.max_tokens >= 1 && options.max_tokens < std::ssize(times.verify_ms));
  const SpeculateStats stats = ChainReplay(chains, times, options, extend).Run();
  const auto n_passes = static_cast<double>(stats.n_verify_passes + stats.n_plain_passes);
  DraftPrediction prediction = {
      .max_drafted = options.max_tokens,
      .n_drafted = static_cast<double>(stats.n_drafted) / n_passes,
      .n_draft_passes = static_cast<double>(stats.n_draft_passes) / n_passes,
      .n_pauses = static_cast<double>(stats.n_pauses) / static_cast<double>(chains.n_texts),
      .draft_ms = stats.draft_ms / n_passes,
      .verify_ms = (stats.verify_ms + stats.plain_ms) / n_passes,
      .tokens_per_pass = static_cast<double>(stats.n_written) / n_passes};
  if (stats.n_drafts > 0) {
    prediction.tokens_per_draft =
        static_cast<double>(stats.n_written - stats.n_plain) / static_cast<double>(stats.n_drafts);
  }
  return prediction;
}

std::vector<DraftPrediction> PredictDrafting(const DraftChains& chains, const DraftingTimes& times,
                                             bool extend) {
  std::vector<DraftPrediction> predictions = {{.verify_ms = times.plain_ms()}};
  for (const int64_t most : kMostDrafted) {
    if (most > chains.depth || most >= std::ssize(times.verify_ms)) break;
    predictions.push_back(PredictChains(chains, times, {.max_tokens = most}, extend));
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
  split.predictions = PredictDrafting(draft->chains, split.times, /*extend=*/false);
  if (draft->chains.has_ids()) {
    split.extended = PredictDrafting(draft->chains, split.times, /*extend=*/true);
  }
  return split;
}

const DraftPrediction& BestOf(std::span<const DraftPrediction> predictions) {
  CHECK(!predictions.empty());
  return *std::ranges::min_element(predictions, {}, &DraftPrediction::ms_per_token);
}

}  // namespace thermocline
