#include "profiler/drafts/draft_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

using Kind = StandInKind::Kind;

int64_t InClusters(double n, int64_t d_ff) {
  const auto whole = static_cast<int64_t>(std::max(0.0, n)) / kClusterNeurons * kClusterNeurons;
  return n >= static_cast<double>(d_ff) ? d_ff : std::min(whole, d_ff);
}

// A layer's neurons under `budget` bytes: those that are hot, then those in finer and in coarser
// bits.
struct LayerParts {
  int64_t n_hot = 0;
  int64_t n_fine = 0;
  int64_t n_coarse = 0;
};

// All neurons that are not hot are in the same bits; where not even that fits, as many as do.
LayerParts HotAndRest(double budget, int64_t d_ff, double hot, double rest) {
  LayerParts parts;
  const double all = static_cast<double>(d_ff);
  if (budget < all * rest) {
    parts.n_coarse = InClusters(budget / rest, d_ff);
    return parts;
  }
  parts.n_hot = hot > rest ? InClusters((budget - all * rest) / (hot - rest), d_ff) : 0;
  parts.n_coarse = d_ff - parts.n_hot;
  return parts;
}

// Of what hot neurons take beyond two bits, half goes to a third bit for the next ones; where that
// is more than all others need, they all have it, and the rest goes to hot ones.
LayerParts Mixed(double budget, int64_t d_ff, double hot, double fine, double coarse) {
  LayerParts parts = HotAndRest(budget, d_ff, hot, coarse);
  const int64_t n_hot = InClusters(0.5 * static_cast<double>(parts.n_hot), d_ff);
  const double freed = static_cast<double>(parts.n_hot - n_hot) * (hot - coarse);
  const int64_t rest = parts.n_hot + parts.n_coarse - n_hot;
  const int64_t n_fine = InClusters(freed / (fine - coarse), d_ff);
  if (n_fine >= rest) {
    parts = HotAndRest(budget, d_ff, hot, fine);
    return {.n_hot = parts.n_hot, .n_fine = parts.n_coarse};
  }
  parts.n_hot = n_hot;
  parts.n_fine = n_fine;
  parts.n_coarse = rest - n_fine;
  return parts;
}

LayerParts PartsOf(const DraftBuilder& builder, const StandInKind& kind, double budget,
                   int64_t d_ff, int64_t d_model) {
  const auto hot = static_cast<double>(builder.hot_bytes());
  const auto bytes = [&](int bits) {
    return static_cast<double>(builder.stand_in_bytes(StandInType(bits, d_model)));
  };
  switch (kind.kind) {
    case Kind::kBits:
      return HotAndRest(budget, d_ff, hot, bytes(kind.bits));
    case Kind::kMixed:
      return Mixed(budget, d_ff, hot, bytes(3), bytes(2));
    case Kind::kCopy:
      return {.n_coarse = d_ff};
    default:
      return {.n_hot = InClusters(budget / hot, d_ff)};
  }
}

}  // namespace

std::string StandInKind::Name() const {
  switch (kind) {
    case Kind::kNone:
      return "none";
    case Kind::kBias:
      return "bias";
    case Kind::kRank:
      return fmt::format("rank:{}", rank);
    case Kind::kBits:
      return fmt::format("{}bit", bits);
    case Kind::kMixed:
      return "mixed";
    case Kind::kCopy:
      return "copy";
  }
  return "";
}

std::optional<StandInKind> ParseStandIn(std::string_view name) {
  constexpr std::string_view kRankPrefix = "rank:";
  if (name == "none") return StandInKind{.kind = Kind::kNone};
  if (name == "bias") return StandInKind{.kind = Kind::kBias};
  if (name == "mixed") return StandInKind{.kind = Kind::kMixed};
  if (name == "copy") return StandInKind{.kind = Kind::kCopy};
  for (const int bits : {2, 3, 4}) {
    if (name == fmt::format("{}bit", bits)) return StandInKind{.kind = Kind::kBits, .bits = bits};
  }
  if (!name.starts_with(kRankPrefix)) return std::nullopt;
  const std::string_view number = name.substr(kRankPrefix.size());
  int64_t rank = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
  if (error != std::errc() || end != number.data() + number.size() || rank < 1) return std::nullopt;
  return StandInKind{.kind = Kind::kRank, .rank = rank};
}

std::vector<StandInKind> UsualStandIns(int64_t d_model) {
  std::vector<StandInKind> kinds = {{.kind = Kind::kNone}, {.kind = Kind::kBias}};
  for (const int64_t rank : {32, 96, 256}) {
    if (rank <= d_model / 2) kinds.push_back({.kind = Kind::kRank, .rank = rank});
  }
  for (const int bits : {2, 3}) kinds.push_back({.kind = Kind::kBits, .bits = bits});
  kinds.push_back({.kind = Kind::kMixed});
  return kinds;
}

std::optional<DraftRecipe> MakeRecipe(const DraftBuilder& builder, const StandInKind& kind,
                                      double share, const LayerShares& shares) {
  const ModelConfig& config = builder.config();
  const int64_t d_ff = config.d_ff;
  const auto layer_bytes = static_cast<double>(builder.hot_bytes()) * static_cast<double>(d_ff);
  DraftRecipe recipe;
  recipe.bias = kind.kind == Kind::kBias || kind.kind == Kind::kRank;
  recipe.rank = kind.kind == Kind::kRank ? kind.rank : 0;
  const auto add = [&](int bits) {
    recipe.slices.push_back({StandInType(bits, config.d_model), {}});
  };
  if (kind.kind == Kind::kMixed) add(3);
  if (kind.kind == Kind::kMixed) add(2);
  if (kind.kind == Kind::kBits) add(kind.bits);
  if (kind.kind == Kind::kCopy) {
    add(4);
    recipe.copy = recipe.slices.front().dtype;
  }
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const double own = shares.empty() ? 1.0 : shares[static_cast<size_t>(l)];
    const double budget = std::min(1.0, share * own) * layer_bytes -
                          static_cast<double>(builder.map_bytes(recipe.rank));
    if (budget < 0) return std::nullopt;
    const LayerParts parts = PartsOf(builder, kind, budget, d_ff, config.d_model);
    recipe.n_hot.push_back(parts.n_hot);
    if (kind.kind == Kind::kMixed) recipe.slices[0].n_neurons.push_back(parts.n_fine);
    if (!recipe.slices.empty()) recipe.slices.back().n_neurons.push_back(parts.n_coarse);
  }
  return recipe;
}

DraftRecipe MakeRecipeOfHot(const DraftBuilder& builder, const StandInKind& kind, double share) {
  const int64_t d_ff = builder.config().d_ff;
  DraftRecipe recipe = *MakeRecipe(builder, kind, 1);
  const int64_t n_hot = InClusters(share * static_cast<double>(d_ff), d_ff);
  for (size_t l = 0; l < recipe.n_hot.size(); ++l) {
    if (kind.kind == Kind::kCopy) break;
    recipe.n_hot[l] = n_hot;
    int64_t left = d_ff - n_hot;
    // Of several, the finer ones take half.
    for (size_t s = 0; s < recipe.slices.size(); ++s) {
      const bool last = s + 1 == recipe.slices.size();
      recipe.slices[s].n_neurons[l] =
          last ? left : InClusters(0.5 * static_cast<double>(left), left);
      left -= recipe.slices[s].n_neurons[l];
    }
  }
  return recipe;
}

uint64_t RecipeBytes(const DraftBuilder& builder, const DraftRecipe& recipe) {
  uint64_t bytes = 0;
  for (size_t l = 0; l < recipe.n_hot.size(); ++l) {
    bytes += static_cast<uint64_t>(recipe.n_hot[l]) * builder.hot_bytes();
    for (const DraftRecipe::Slice& slice : recipe.slices) {
      bytes += static_cast<uint64_t>(slice.n_neurons[l]) * builder.stand_in_bytes(slice.dtype);
    }
    bytes += builder.map_bytes(recipe.rank);
  }
  return bytes;
}

MeasuredDraft MeasureDraft(DraftBuilder& builder, DraftMeter& meter, const StandInKind& kind,
                           double share, const DraftRecipe& recipe, const DraftFile& draft) {
  MeasuredDraft measured;
  measured.kind = kind;
  measured.share = share;
  measured.hot_share =
      static_cast<double>(draft.n_hot()) / static_cast<double>(builder.config().n_neurons());
  measured.bytes = RecipeBytes(builder, recipe);
  measured.own_bytes = draft.own_bytes();
  measured.acceptance = meter.Measure(builder.Run(draft));
  return measured;
}

MeasuredDraft MakeAndMeasure(DraftBuilder& builder, DraftMeter& meter, const StandInKind& kind,
                             double share, const DraftRecipe& recipe, DraftFile* draft) {
  *draft = builder.Build(recipe);
  const MeasuredDraft measured = MeasureDraft(builder, meter, kind, share, recipe, *draft);
  draft->acceptance = std::clamp(measured.acceptance.sampled, 0.0, 1.0);
  draft->agreement = measured.acceptance.agreement;
  draft->heldout_tokens = measured.acceptance.n_positions;
  return measured;
}

LayerShares SharesByAcceptance(DraftBuilder& builder, DraftMeter& meter, double share,
                               const ProgressFn& progress) {
  const ModelConfig& config = builder.config();
  const auto n_layers = static_cast<size_t>(config.n_layers);
  LayerShares lost(n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    ThrowIfInterrupted();
    Report(progress, "layers drafted alone", l, n_layers);
    DraftRecipe recipe;
    recipe.n_hot.assign(n_layers, config.d_ff);
    recipe.n_hot[l] = InClusters(share * static_cast<double>(config.d_ff), config.d_ff);
    DraftFile draft;
    const StandInKind none;
    lost[l] = std::max(
        1e-4, 1 - MakeAndMeasure(builder, meter, none, share, recipe, &draft).acceptance.sampled);
  }
  // A layer that loses more gets more, but by a root: what is left to lose falls with its share.
  double mean = 0;
  for (double& value : lost) mean += (value = std::sqrt(value)) / static_cast<double>(n_layers);
  for (double& value : lost) value /= mean;
  return lost;
}

}  // namespace thermocline
