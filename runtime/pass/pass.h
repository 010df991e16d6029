// One pass of the model, as those who run it see it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/device/batch.h"
#include "runtime/threads/team.h"

namespace thermocline {

// Which rows want logits. kSome: others than the last alone or all.
enum class LogitsWanted : uint8_t { kNone, kLast, kAll, kSome };
inline constexpr int64_t kLogitsChoices = 4;

struct Pass {
  const Batch* batch = nullptr;
  std::vector<int32_t> ids;            // the rows' tokens
  std::vector<BatchSegment> segments;  // of the batch
  LogitsWanted wanted = LogitsWanted::kNone;
  int64_t n_best = 0;         // only so many best logits of each row that wants some; 0: all
  bool wants_hidden = false;  // no logits, but what they are computed from, normalised
  // The rows are the text that an encoder reads: the pass ends with what decoders attend to.
  bool encodes = false;
  // The cache stays as it is: rows attend to what it has of their own positions, too.
  bool keeps_cache = false;
  // Layers [layer_begin, layer_end).
  int64_t layer_begin = 0;
  int64_t layer_end = 0;
  bool attention_only =
      false;  // layers end behind attention, which is added to the residual stream

  int64_t n() const { return batch->n_rows(); }
  int64_t first_position() const { return batch->rows.front().position; }
};

// A pass through n_layers layers. n_best: 0, or how many of each row's logits are wanted.
Pass MakePass(const Batch& batch, int64_t n_layers, int64_t n_best = 0);

inline constexpr size_t kMaxTiers = 4;

// A thread's lanes in a pass: among all threads, and among those of each tier while several tiers
// run.
struct Lanes {
  Lane all;
  std::array<std::optional<Lane>, kMaxTiers> tiers;  // none: the tier is for other threads
  // Whether a layer that lies on one tier alone is computed there by all lanes.
  bool all_when_alone = true;

  std::optional<Lane> Of(size_t tier, bool alone) const {
    return alone && all_when_alone ? std::optional(all) : tiers[tier];
  }
};

}  // namespace thermocline
