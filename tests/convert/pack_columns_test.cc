#include "runtime/convert/pack_columns.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/engine/engine.h"
#include "runtime/placement/placement.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

std::string Golden(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + name + ".gguf";
}

EngineOptions Options(const std::string& path) {
  EngineOptions options;
  options.model_path = path;
  options.fast_tier = FastTier::kCpu;
  options.n_threads = 2;
  return options;
}

std::vector<float> LogitsOf(const std::string& path, bool decodes) {
  Engine engine(Options(path));
  std::vector<float> all;
  const std::vector<int32_t> ids = {1, 40, 77, 50, 99, 120, 33, 200, 5, 61};
  if (decodes) {
    for (const int32_t id : ids) {
      const auto logits = engine.Feed({&id, 1});
      all.assign(logits.begin(), logits.end());
    }
  } else {
    const auto logits = engine.Feed(ids);
    all.assign(logits.begin(), logits.end());
  }
  return all;
}

// In F32 nothing is rounded, and a model by column says what its source says, but for the order in
// which sums are made.
TEST(PackColumns, SaysWhatItsSourceSays) {
  TempDir dir;
  for (const char* name : {"gqa_relu", "mha_silu_tied", "wide_heads"}) {
    const std::string packed = dir.file(std::string(name) + ".gguf");
    const PackReport report = PackColumns(Golden(name), packed, {});
    EXPECT_TRUE(report.changes.empty());
    EXPECT_FALSE(report.requantised_down);
    for (const bool decodes : {false, true}) {
      const auto expected = LogitsOf(Golden(name), decodes);
      const auto found = LogitsOf(packed, decodes);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        // Batches are multiplied in bf16 or in floats.
        ASSERT_NEAR(found[i], expected[i], decodes ? 2e-3 : 5e-2) << name;
      }
    }
    const Engine engine(Options(packed));
    EXPECT_TRUE(engine.weights().layers[0].wo.by_column);
    EXPECT_TRUE(engine.weights().layers[0].slices[0].by_column);
    const auto fingerprints = ModelFingerprints(engine.model().gguf());
    EXPECT_EQ(fingerprints.back(), GgufReader(Golden(name)).fingerprint());
  }
}

TEST(PackColumns, RoundsToATypeAndSaysByHowMuch) {
  TempDir dir;
  const std::string packed = dir.file("q8.gguf");
  PackColumnsOptions options;
  options.rule = TypeRule{.dtype = DType::kQ8_0};
  const PackReport report = PackColumns(Golden("gqa_relu"), packed, options);
  ASSERT_FALSE(report.changes.empty());
  for (const TensorChange& change : report.changes) EXPECT_LT(change.relative_rms_error, 0.01);
  const auto expected = LogitsOf(Golden("gqa_relu"), true);
  const auto found = LogitsOf(packed, true);
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 0.2);
}

TEST(PackColumns, RefusesWhatItCannotRun) {
  TempDir dir;
  const std::string packed = dir.file("a.gguf");
  PackColumns(Golden("gqa_relu"), packed, {});
  EXPECT_NE(MessageOf([&] { PackColumns(packed, dir.file("b.gguf"), {}); }).find("packed already"),
            std::string::npos);
  EngineOptions predicted = Options(packed);
  predicted.predictor = "sign";
  EXPECT_NE(MessageOf([&] { OpenedModel{predicted}; }).find("stored by column"), std::string::npos);
}

}  // namespace
}  // namespace thermocline
