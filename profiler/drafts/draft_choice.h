// What a draft is made up of under a budget of bytes: which share of the neurons is hot, and what
// stands in for the others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/drafts/draft_build.h"
#include "profiler/drafts/draft_measure.h"

namespace thermocline {

// What stands in for the neurons that are not hot. By name: none, bias, rank:R, 2bit, 3bit, 4bit,
// mixed (3 bits, then 2 bits), copy (all neurons, attention and the head in 4 bits).
struct StandInKind {
  enum class Kind : uint8_t { kNone, kBias, kRank, kBits, kMixed, kCopy };
  Kind kind = Kind::kNone;
  int64_t rank = 0;  // kRank
  int bits = 0;      // kBits

  std::string Name() const;
};
// Returns nullopt for a name that is none.
std::optional<StandInKind> ParseStandIn(std::string_view name);
// Those that are tried where nothing is said, for a model of this width.
std::vector<StandInKind> UsualStandIns(int64_t d_model);

// How the bytes are shared out over the layers: alike, or by how much each matters.
using LayerShares = std::vector<double>;  // (n_layers), with a mean of 1

// Returns a recipe whose neurons take `share` of the bytes that all neurons take in the model's own
// bits, or a little less; hot ones in clusters. nullopt where the kind alone takes more.
// kCopy takes what it takes.
std::optional<DraftRecipe> MakeRecipe(const DraftBuilder& builder, const StandInKind& kind,
                                      double share, const LayerShares& shares = {});

// Returns one in which this share of each layer's neurons is hot, and the kind stands in for all
// others, whatever that takes.
DraftRecipe MakeRecipeOfHot(const DraftBuilder& builder, const StandInKind& kind, double share);

// Bytes that a token reads of the neurons and what stands in for them, whether they are the model's
// or the draft's.
uint64_t RecipeBytes(const DraftBuilder& builder, const DraftRecipe& recipe);

// Returns how much layers matter: by what is lost when a layer alone is drafted with `share` of its
// bytes, kind none. Measures once per layer.
LayerShares SharesByAcceptance(DraftBuilder& builder, DraftMeter& meter, double share,
                               const ProgressFn& progress);

// A draft that was made and measured.
struct MeasuredDraft {
  StandInKind kind;
  double share = 0;        // of the neurons' bytes that was asked for
  double hot_share = 0;    // of the neurons
  uint64_t bytes = 0;      // RecipeBytes
  uint64_t own_bytes = 0;  // of what the draft has of its own
  DraftAcceptance acceptance;
};
MeasuredDraft MeasureDraft(DraftBuilder& builder, DraftMeter& meter, const StandInKind& kind,
                           double share, const DraftRecipe& recipe, const DraftFile& draft);
// Makes one, measures it and writes that into it.
MeasuredDraft MakeAndMeasure(DraftBuilder& builder, DraftMeter& meter, const StandInKind& kind,
                             double share, const DraftRecipe& recipe, DraftFile* draft);

}  // namespace thermocline
