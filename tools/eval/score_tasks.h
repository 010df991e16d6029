// Scores tasks by likelihood: of the continuations of a text the model's is the likeliest.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/core/progress.h"
#include "runtime/engine/engine.h"
#include "tools/eval/task_file.h"

namespace thermocline {

// What a model makes of one item.
struct ItemScore {
  bool right = false;  // the likeliest choice; of one choice: each of its tokens is the likeliest
  bool right_norm = false;  // the likeliest per byte; the same of one choice
  double nll = 0;           // of the right choice, all its tokens
  int64_t tokens = 0;       // of the right choice
};

// Scores items in a mode. In kThreshold the rows of batches are cut, too. REQUIRES: an engine
// opened with all_logits. Throws Error where an item is longer than the context, Interrupted on a
// signal. Leaves the engine's mode as it was.
std::vector<ItemScore> ScoreItems(Engine& engine, const std::vector<EvalItem>& items,
                                  SparseMode mode, const ProgressFn& progress);

// A share, with the ends of its 95 % interval (Wilson, 1927).
struct ScoredShare {
  double mean = 0;
  double low = 0;
  double high = 0;
};
ScoredShare ShareRight(int64_t n_right, int64_t n);

// How two runs over the same items differ.
struct PairedDifference {
  double mean = 0;       // share right of the second less that of the first
  double std_error = 0;  // from the items' differences
  int64_t gained = 0;    // wrong in the first, right in the second
  int64_t lost = 0;
};
PairedDifference Compare(const std::vector<ItemScore>& first, const std::vector<ItemScore>& second,
                         bool ItemScore::*right);

}  // namespace thermocline
