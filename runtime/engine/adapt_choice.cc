#include "runtime/engine/adapt_choice.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/engine/opened_model.h"

namespace thermocline {
namespace {

// Where the placement was made without rates: those of a common desktop (DDR5 on two channels, a
// card of the middle, PCIe 4.0 x16 as it is used).
constexpr double kUsualSlowBytesPerS = 40e9;
constexpr double kUsualFastBytesPerS = 400e9;
constexpr double kUsualLinkBytesPerS = 12e9;
// A swap must pay at least for a neuron that fires in half of the tokens more.
constexpr double kMostDifference = 0.5;
// What a layer's turn takes of the threads that run passes: a wake-up, the counters of a layer, and
// as many swaps as are usual, of which rows are copied to both tiers. It may take this share of a
// token, which takes its bytes and some time per layer.
constexpr double kTurnNs = 8'000;
constexpr double kTurnNsOfNeuron = 2;
constexpr double kUsualSwaps = 8;
constexpr double kCopyBytesPerNs = 8;
constexpr double kTurnShare = 0.005;
constexpr double kTokenBytesPerNs = 20;
constexpr double kTokenNsOfLayer = 10'000;

// Why no neuron can move, and what the user would have to change; an empty text where some can.
struct Obstacle {
  std::string what;
  std::vector<SettingUse> settings;
};

// What keeps neurons from moving wherever they lie.
Obstacle ObstacleOfModel(const OpenedModel& model) {
  if (model.mode() == SparseMode::kDense) {
    return {"every neuron is computed for every token, wherever it lies",
            {{Setting::kSparseMode, "auto"}}};
  }
  if (model.mode() == SparseMode::kThreshold) {
    return {"thresholds leave out inputs, and what lies by column does not move",
            {{Setting::kSparseMode, "auto"}}};
  }
  if (!model.loras().empty()) {
    return {"what adapters add to neurons does not move with them", {{Setting::kLora}}};
  }
  if (model.draft() != nullptr && model.draft()->n_hot() > 0) {
    return {"the draft of the hot neurons has stand-ins for the others", {}};
  }
  const ModelPredictor* const predictor = model.predictor();
  if (predictor != nullptr && !predictor->IsSign() && !predictor->HasNeuronParts()) {
    return {"the packed model's own predictor does not move with them", {{Setting::kPredictor}}};
  }
  return {};
}

Obstacle ObstacleOf(const OpenedModel& model) {
  if (!model.has_cold()) {
    return {"all neurons lie on one tier", {{Setting::kPlacement}}};
  }
  Obstacle of_model = ObstacleOfModel(model);
  if (!of_model.what.empty()) return of_model;
  for (int64_t l = 0; l < model.config().n_layers; ++l) {
    const LayerPlacement& layer = model.placement()->layers[static_cast<size_t>(l)];
    if (layer.n_on[kVram] > 0 && layer.n_on[kDram] > 0) return {};
  }
  return {"no layer has neurons on both tiers", {{Setting::kPlacement}}};
}

// Of the first layer with neurons on both tiers; layers are alike.
MoveCosts CostsOf(const OpenedModel& model, const Placement& placement) {
  const ModelConfig& config = model.config();
  int64_t layer = 0;
  for (int64_t l = config.n_layers; l-- > 0;) {
    const LayerPlacement& own = placement.layers[static_cast<size_t>(l)];
    if (own.n_on[kVram] > 0 && own.n_on[kDram] > 0) layer = l;
  }
  MoveCosts costs;
  costs.neuron_bytes = static_cast<double>(NeuronBytes(
      model.gguf(), model.family(), config, layer, model.down_storage(), WeightForm::kAsInFile));
  const bool gated = config.layer(layer).ffn.kind == FfnKind::kGated;
  // In exact mode an inactive neuron's gate is read, too.
  const double skipped = gated ? 2.0 / 3 : 1.0 / 2;
  costs.active_bytes =
      costs.neuron_bytes * (model.mode() == SparseMode::kPredicted ? 1.0 : skipped);
  costs.link_bytes_per_s = kUsualLinkBytesPerS;
  costs.slow_bytes_per_s = kUsualSlowBytesPerS;
  costs.fast_bytes_per_s = kUsualFastBytesPerS;
  const auto& prediction = placement.prediction;
  if (!model.gpu().empty() && prediction && prediction->slow_bytes_per_s > 0 &&
      prediction->fast_bytes_per_s > 0) {
    costs.slow_bytes_per_s = prediction->slow_bytes_per_s;
    costs.fast_bytes_per_s = prediction->fast_bytes_per_s;
  }
  return costs;
}

}  // namespace

AdaptChoice ChooseAdapt(const OpenedModel& model) {
  const Adapt wanted = model.options().adapt;
  if (wanted == Adapt::kOff) return {};
  Obstacle obstacle = ObstacleOf(model);
  if (wanted == Adapt::kOn) {
    if (obstacle.what.empty()) return {.moves = true, .why_not = {}};
    throw Error(
        {.path = model.options().model_path,
         .what = "the hot sets are to follow the text, and no neuron can move: " + obstacle.what,
         .settings = std::move(obstacle.settings)});
  }
  if (!obstacle.what.empty()) return {.moves = false, .why_not = std::move(obstacle.what)};
  if (model.gpu().empty()) {
    return {.moves = false,
            .why_not = "both tiers are memory of the host, so that moving makes nothing faster"};
  }
  if (LeastDifference(CostsOf(model, *model.placement())) > kMostDifference) {
    return {.moves = false, .why_not = "a neuron's copies would cost more than they bring"};
  }
  return {.moves = true, .why_not = {}};
}

bool MayMoveOncePlaced(const OpenedModel& model) {
  return !model.gpu().empty() && ObstacleOfModel(model).what.empty();
}

MoverOptions MoverOptionsOf(const OpenedModel& model, const Placement& placement) {
  MoverOptions options;
  options.in_step = model.options().adapt_in_step;
  options.least_difference =
      std::max(options.least_difference, LeastDifference(CostsOf(model, placement)));
  options.tokens_between = model.options().adapt_tokens_between;
  if (options.tokens_between > 0) return options;
  const MemoryPlan plan = model.PlanOf(&placement);
  // A sparse token reads about a third of its neurons' bytes.
  const double token_bytes =
      static_cast<double>(plan.attention_bytes()) +
      static_cast<double>(plan.neuron_bytes(kVram) + plan.neuron_bytes(kDram)) / 3;
  const auto n_layers = static_cast<double>(model.config().n_layers);
  const double token_ns = token_bytes / kTokenBytesPerNs + n_layers * kTokenNsOfLayer;
  const double copied = 2 * kUsualSwaps * CostsOf(model, placement).neuron_bytes;
  const double turn_ns = kTurnNs + kTurnNsOfNeuron * static_cast<double>(model.config().d_ff) +
                         copied / kCopyBytesPerNs;
  options.tokens_between =
      std::max<int64_t>(1, std::llround(std::ceil(turn_ns / (kTurnShare * token_ns))));
  return options;
}

}  // namespace thermocline
