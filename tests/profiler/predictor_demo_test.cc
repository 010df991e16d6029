// What the predictors do on the embedded model, on text that nothing was fitted to.
#include <gtest/gtest.h>

#include "profiler/predictors/predictor_build.h"
#include "tools/reports/predictor_table.h"

namespace thermocline {
namespace {

PredictorFile Build(PredictorKind kind, int64_t rank, DType dtype = DType::kQ8_0) {
  const std::string folder = std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/";
  EngineOptions options;
  options.model_path = folder + "classics-9m-relu-q8_0.gguf";
  options.sparse = "dense";
  options.n_threads = 2;
  PredictorOptions predictor;
  predictor.text_path = folder + "calibration.txt";
  predictor.kind = kind;
  predictor.rank = rank;
  predictor.dtype = dtype;
  predictor.max_tokens = 20000;
  Engine engine(options);
  return BuildPredictor(engine, ReadPredictorTexts(engine.model(), engine.tokenizer(), predictor),
                        predictor);
}

double RatioAt(const PredictorFile& file, double recall) {
  const PredictorTotals totals = TotalsAt(file, recall);
  return totals.density / totals.true_density;
}

// The figure that issue 4 asks for.
TEST(PredictorDemo, SvdPredictsLittleMoreThanWhatFires) {
  const PredictorFile file = Build(PredictorKind::kSvd, 0);
  EXPECT_EQ(file.rank, 64);
  EXPECT_GE(TotalsAt(file, 0.95).recall, 0.95);
  EXPECT_LE(RatioAt(file, 0.95), 1.6) << PredictorTable(file, 0.95);
  for (const StoredLayerPredictor& layer : file.layers) {
    const auto& points = layer.predictor.points;
    EXPECT_GE(points[ChoosePoint(layer.predictor, 0.95)].recall, 0.95);
    EXPECT_GE(points.back().recall, 0.99);
    for (size_t p = 1; p < points.size(); ++p) {
      EXPECT_GT(points[p].recall, points[p - 1].recall);
      EXPECT_GT(points[p].density, points[p - 1].density);
    }
  }
}

TEST(PredictorDemo, MoreRankPredictsBetterAndTheTypeMattersLittle) {
  const double at_32 = RatioAt(Build(PredictorKind::kSvd, 32), 0.95);
  const double at_128 = RatioAt(Build(PredictorKind::kSvd, 128), 0.95);
  EXPECT_LT(at_128, 1.2);
  EXPECT_GT(at_32, at_128 * 1.3);
  EXPECT_NEAR(RatioAt(Build(PredictorKind::kSvd, 128, DType::kF16), 0.95), at_128, 0.03);
}

TEST(PredictorDemo, SignKnowsSomething) {
  const PredictorFile file = Build(PredictorKind::kSign, 0);
  EXPECT_GE(TotalsAt(file, 0.95).recall, 0.95);
  EXPECT_LT(TotalsAt(file, 0.95).density, 0.6) << PredictorTable(file, 0.95);
}

}  // namespace
}  // namespace thermocline
