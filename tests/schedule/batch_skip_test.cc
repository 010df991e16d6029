// Which batches skip neurons: what is predicted, what is chosen, and that texts stay the same.
#include "runtime/schedule/batch_skip.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/schedule/served.h"

namespace thermocline {
namespace {

// A machine on which a product with one row takes as long as reading its weights, and with n rows
// n * `batch_share` times as long, if that is more.
MachineRates RatesOf(double batch_share) {
  constexpr double kWeightsPerS = 1e9;
  MachineRates rates;
  rates.host.thread_counts = {1};
  rates.host.gather_row_bytes = {1};
  rates.host.gather_density = {1};
  rates.host.linear_gather = {1};
  rates.host.sum_gather = {1};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
    TypeRates& type = rates.host.types.emplace_back();
    type.key = {dtype, 64};
    for (const int64_t rows : kRateRows) {
      const double seconds = std::max(1.0, batch_share * static_cast<double>(rows));
      type.linear_weights_per_s.push_back(kWeightsPerS / seconds);
      type.ffn_weights_per_s.push_back(kWeightsPerS / seconds);
    }
    type.cached_weights_per_s = {2 * kWeightsPerS};
    type.sum_weights_per_s = {kWeightsPerS};
  }
  return rates;
}

TEST(BatchSkip, IsPredictedFromWhatIsReadAndComputed) {
  const MachineRates rates = RatesOf(0.5);
  BatchLayer layer{.key = {DType::kF16, 64}, .neurons = 1000, .gated = true, .density = 0};
  const double matrix_s = 1000 * 64 / 1e9;
  // Nothing fires: the gates, read once and found in a cache three times.
  BatchSeconds found = PredictBatch(layer, rates, 1, 4);
  EXPECT_NEAR(found.by_neuron, (1 + 3 * 0.5) * matrix_s, 1e-12);
  EXPECT_NEAR(found.dense, 3 * 2 * matrix_s, 1e-12);
  // All fire: everything is read once, and computed again for every further row.
  layer.density = 1;
  found = PredictBatch(layer, rates, 1, 4);
  EXPECT_NEAR(found.by_neuron, 3 * (1 + 3 * 0.5) * matrix_s, 1e-12);
  // Of two rows that each need half of the neurons, three quarters are read.
  layer.density = 0.5;
  found = PredictBatch(layer, rates, 1, 2);
  EXPECT_NEAR(found.by_neuron, (1.5 + 2 * (0.75 + 0.25 * 0.5)) * matrix_s, 1e-12);
  layer.gated = false;
  found = PredictBatch(layer, rates, 1, 2);
  EXPECT_NEAR(found.by_neuron, (1.5 + 0.75 + 0.25 * 0.5) * matrix_s, 1e-12);
  EXPECT_NEAR(found.dense, 2 * matrix_s, 1e-12);
}

TEST(BatchSkip, FewerNeuronsThatFireAndSlowerBatchesMakeItPayForMoreRows) {
  const auto most_rows = [](double density, double batch_share) {
    const BatchLayer layer{.key = {DType::kQ4_0, 64}, .neurons = 1000, .density = density};
    const MachineRates rates = RatesOf(batch_share);
    int64_t rows = 0;
    while (rows < kMostSkipRows) {
      const BatchSeconds s = PredictBatch(layer, rates, 1, rows + 1);
      if (s.by_neuron > s.dense) break;
      ++rows;
    }
    return rows;
  };
  EXPECT_EQ(most_rows(0.05, 0.5), kMostSkipRows);
  EXPECT_GT(most_rows(0.05, 0.2), most_rows(0.3, 0.2));
  EXPECT_GT(most_rows(0.1, 0.5), most_rows(0.1, 0.1));
}

struct ManyTexts {
  std::vector<std::vector<int32_t>> texts;
  FfnCounts counts;
};

constexpr int kTexts = kFewTokens + 4;  // more than skip without rates

ManyTexts WriteWith(std::shared_ptr<const MachineRates> rates) {
  // How many tokens of prompts a pass reads hangs on the clock, unless nobody may be kept waiting.
  Served served(SmallModel(kTexts),
                {.n_slots = kTexts, .max_slowdown = 0, .rates = std::move(rates)});
  // One text alone, whose neurons are counted.
  served.Run(GreedyRequest(PromptOf(9, 10), 60));
  std::vector<std::shared_ptr<Collector>> all;
  for (int i = 0; i < kTexts; ++i) all.push_back(served.Submit(GreedyRequest(PromptOf(i, 20), 50)));
  served.RunAll();
  ManyTexts run;
  for (const auto& collector : all) run.texts.push_back(collector->texts[0].ids);
  run.counts = served.scheduler.stats().neurons;
  return run;
}

TEST(BatchSkip, FollowsTheRatesAndChangesNoText) {
  const ManyTexts without = WriteWith(nullptr);
  EXPECT_GT(without.counts.batch_layers_dense, 0);
  const ManyTexts slow_batches = WriteWith(std::make_shared<MachineRates>(RatesOf(100)));
  EXPECT_GT(slow_batches.counts.batch_layers_by_neuron, without.counts.batch_layers_by_neuron + 40);
  const ManyTexts fast_batches = WriteWith(std::make_shared<MachineRates>(RatesOf(1e-3)));
  EXPECT_EQ(fast_batches.counts.batch_layers_by_neuron, without.counts.batch_layers_by_neuron);
  // Rows that skip count their neurons as one text alone does.
  EXPECT_GT(slow_batches.counts.tokens, without.counts.tokens);
  EXPECT_LT(slow_batches.counts.Sum().active, slow_batches.counts.Sum().gates);
  for (size_t i = 0; i < without.texts.size(); ++i) {
    EXPECT_EQ(slow_batches.texts[i], without.texts[i]) << "text " << i;
    EXPECT_EQ(fast_batches.texts[i], without.texts[i]) << "text " << i;
  }
}

}  // namespace
}  // namespace thermocline
