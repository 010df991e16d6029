// The predictor that goes with a synthetic model does what it says, on tokens that neither its
// margins nor its figures come from.
#include "profiler/synthetic/synth_predictor.h"

#include <gtest/gtest.h>

#include "profiler/activations/activation_counter.h"
#include "runtime/engine/engine.h"
#include "tests/profiler/predictor_recorder.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

SynthOptions SmallModel(DType dtype) {
  SynthOptions options;
  options.n_layers = 3;
  options.d_model = 256;
  options.d_ff = 768;
  options.n_heads = 4;
  options.n_kv_heads = 2;
  options.vocab_size = 2000;
  options.max_seq_len = 128;
  options.activation = Activation::kRelu;
  options.dtype = dtype;
  options.activity = ActivityTarget{0.1, 0.26, 0.8};
  options.gate_rank = 64;
  options.n_threads = 2;
  return options;
}

// Records what the model itself does with tokens of a sequence: x and h of layer after layer.
FfnRecorder Record(const std::string& model_path, int64_t n_tokens) {
  EngineOptions options;
  options.model_path = model_path;
  options.sparse = "dense";
  options.n_threads = 2;
  Engine engine(options);
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < n_tokens; ++t) ids.push_back(static_cast<int32_t>(3 + t * 613 % 1990));
  FfnRecorder recorder;
  const ScopedObserver watching(engine.executor(), &recorder);
  engine.Feed(ids);
  return recorder;
}

struct Case {
  DType weights;
  DType factors;
};

class SynthPredictorTest : public testing::TestWithParam<Case> {};

TEST_P(SynthPredictorTest, RecallAndDensityAreTrueAndGood) {
  constexpr int64_t kTokens = 120;
  const TempDir directory;
  const SynthOptions options = SmallModel(GetParam().weights);
  const std::string model = directory.file("model.gguf");
  WriteSynthModel(model, options);
  WritePredictor(
      directory.file("p.gguf"),
      BuildSynthPredictor(model, options,
                          {.dtype = GetParam().factors, .n_tokens = 512, .n_threads = 2}));
  const PredictorFile file = ReadPredictor(directory.file("p.gguf"));
  EXPECT_EQ(file.rank, 64);
  EXPECT_EQ(file.kind, PredictorKind::kSvd);
  EXPECT_EQ(file.model_fingerprint, GgufReader(model).fingerprint());
  EXPECT_EQ(file.heldout_tokens, 512);
  ASSERT_EQ(file.layers.size(), 3U);
  const FfnRecorder seen = Record(model, kTokens);
  for (size_t l = 0; l < 3; ++l) {
    const LayerPredictor& predictor = file.layers[l].predictor;
    EXPECT_EQ(predictor.in_proj.dtype, GetParam().factors);
    const float* x = seen.x.data() + l * kTokens * 256;
    const float* h = seen.h.data() + l * kTokens * 768;
    for (size_t p = 0; p < predictor.points.size(); ++p) {
      const PredictedCounts counts = CountPredicted(predictor, p, x, h, kTokens);
      EXPECT_NEAR(counts.recall(), predictor.points[p].recall, 0.02) << l << " " << p;
      EXPECT_NEAR(counts.density(), predictor.points[p].density, 0.01) << l << " " << p;
    }
    const OperatingPoint& good = predictor.points[ChoosePoint(predictor, 0.98)];
    EXPECT_GE(good.recall, 0.98F);
    EXPECT_LE(good.density, 1.1F * file.layers[l].true_density);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, SynthPredictorTest,
                         testing::Values(Case{DType::kQ4_0, DType::kQ8_0},
                                         Case{DType::kF32, DType::kF16}));

// The gate's own bias is part of the score; without one about half of the neurons fire.
TEST(SynthPredictor, AlsoWithoutBiases) {
  const TempDir directory;
  SynthOptions options = SmallModel(DType::kQ8_0);
  options.activity.reset();
  WriteSynthModel(directory.file("model.gguf"), options);
  const PredictorFile file =
      BuildSynthPredictor(directory.file("model.gguf"), options, {.n_tokens = 256, .n_threads = 2});
  for (const StoredLayerPredictor& layer : file.layers) {
    EXPECT_NEAR(layer.true_density, 0.5, 0.1);
    const OperatingPoint& point = layer.predictor.points[ChoosePoint(layer.predictor, 0.99)];
    EXPECT_GE(point.recall, 0.99F);
    EXPECT_LE(point.density, 1.05F * layer.true_density);
  }
}

}  // namespace
}  // namespace thermocline
