#include "runtime/engine/growth_pass.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Of the best logits, enough to know how certain the best one is.
constexpr int64_t kBestForCertainty = 8;

}  // namespace

void GrowthPass::AddText(DraftGrowth* growth, int32_t sequence, std::span<const int32_t> ids) {
  rows_.push_back({growth});
  inputs_.push_back({.sequence = sequence, .ids = ids});
}

void GrowthPass::Add(DraftGrowth* growth, int32_t sequence, int64_t tree_begin, int64_t most) {
  const size_t n = growth->Next(static_cast<size_t>(std::max<int64_t>(most, 0)));
  if (n == 0) return;
  for (size_t i = 0; i < n; ++i) rows_.push_back({growth, static_cast<ptrdiff_t>(i)});
  inputs_.push_back({.sequence = sequence,
                     .ids = growth->ids(),
                     .all_logits = true,
                     .tree_begin = tree_begin,
                     .parents = growth->parents()});
}

int64_t GrowthPass::BestNeeded(int64_t most) const {
  int64_t needed = kBestForCertainty;
  for (const Row& row : rows_) {
    const int64_t n = row.growth->tree().n_deciding();
    if (n == 0) return 0;
    needed = std::max(needed, n);
  }
  return needed > most ? 0 : needed;
}

void GrowthPass::Take(const Row& row, const NextLogits& logits) {
  if (row.token < 0) return row.growth->TakeText(logits);
  row.growth->Take(static_cast<size_t>(row.token), logits);
}

void GrowthPass::Run(Engine& engine, Executor& executor) {
  CHECK(!inputs_.empty());
  const int64_t n_best = BestNeeded(executor.max_best());
  if (n_best > 0) {
    const auto best = engine.FeedSequencesBestBy(executor, inputs_, n_best);
    for (size_t i = 0; i < rows_.size(); ++i) Take(rows_[i], {.best = best[i], .n_best = n_best});
  } else {
    const auto width = static_cast<size_t>(engine.config().vocab_size);
    const auto logits = engine.FeedSequencesBy(executor, inputs_);
    for (size_t i = 0; i < rows_.size(); ++i) {
      Take(rows_[i], {.all = logits.subspan(i * width, width)});
    }
  }
  for (const Row& row : rows_) {
    if (row.token == 0) row.growth->EndPass();
  }
}

}  // namespace thermocline
