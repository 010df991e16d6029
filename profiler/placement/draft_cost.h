// What drafting with the hot neurons is expected to bring: the time of a drafted token, of the pass
// that verifies, and how many tokens that gives by how far drafts are accepted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "profiler/placement/cost_model.h"
#include "runtime/placement/draft_file.h"

namespace thermocline {

// Tokens of a pass that verifies n_drafted of them, each accepted with `acceptance` where those
// before it are: 1 + a + a^2 + ...
double TokensPerPass(double acceptance, int64_t n_drafted);

struct DraftPrediction {
  int64_t n_drafted = 0;  // 0: plain decoding
  double draft_ms = 0;    // of all of them
  double verify_ms = 0;
  double tokens_per_pass = 1;

  double ms_per_token() const { return (draft_ms + verify_ms) / tokens_per_pass; }
};

// By the number of drafted tokens, plain decoding first. n_hot: neurons of each layer on the fast
// tier. shape: of a plain token. The acceptance is the file's, as it was measured.
// REQUIRES: as CostModel; the draft fits the model.
std::vector<DraftPrediction> PredictDrafting(const OpenedModel& model, const ProfileStats& stats,
                                             const MachineRates& rates, const PassShape& shape,
                                             const DraftFile& draft,
                                             std::span<const int64_t> n_hot);

}  // namespace thermocline
