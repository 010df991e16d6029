// What drafting took in a bench, beside what the cost model said it would.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "profiler/placement/draft_cost.h"
#include "tools/bench/speculative_decode.h"

namespace thermocline {

struct PredictedAndMeasured {
  double predicted = 0;
  double measured = 0;

  // As a signed share of what was measured.
  double error() const { return measured > 0 ? predicted / measured - 1 : 0; }
};

struct DraftingComparison {
  SparseMode mode = SparseMode::kDense;
  std::string source;
  int64_t width = 1;
  PredictedAndMeasured plain_ms;   // of a token without drafts
  PredictedAndMeasured draft_ms;   // of a pass that drafts; 0: none was
  PredictedAndMeasured verify_ms;  // of a pass that verifies, in the mean of those that were
  // With drafts of the sizes that were drafted, and accepted as they were.
  PredictedAndMeasured ms_per_token;
  PredictedAndMeasured speed_up;
  // By how far the draft was right when it was made, where its file says so; of chains. Tokens of
  // passes that have something to verify, and pauses of a text.
  std::optional<PredictedAndMeasured> tokens_per_pass;
  std::optional<PredictedAndMeasured> pauses;
  std::optional<PredictedAndMeasured> recorded_speed_up;
};

// What a draft's file says of how far it is right.
struct RecordedDrafting {
  const DraftChains* chains = nullptr;  // null: nothing
  bool extend = false;                  // by n-grams
  SpeculateOptions options;
};

// What was measured, beside times for as many drafted tokens as the largest draft has.
DraftingComparison CompareDrafting(const SpeculationResult& measured, const DraftingTimes& times,
                                   const RecordedDrafting& recorded);

std::string DraftingComparisonTable(const DraftingComparison& comparison);
nlohmann::ordered_json DraftingComparisonJson(const DraftingComparison& comparison);

}  // namespace thermocline
