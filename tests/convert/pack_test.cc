// Packed models have every neuron where the placement puts it, and write the same text as the model
// they were made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/convert/pack_model.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/core/error.h"
#include "runtime/engine/generate.h"
#include "runtime/model/stored_ffn.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

PackReport Pack(const std::string& model, const std::string& placement, const std::string& out) {
  PackOptions options;
  options.placement_path = placement;
  options.n_threads = 2;
  return PackModel(model, out, options);
}

// Writes 40 greedy tokens.
std::vector<float> LastLogits(Engine& engine, std::string* text) {
  Generator generator(engine, {.temperature = 0});
  generator.Continue(generator.Encode("The captain"), 40,
                     [&](std::string_view piece) { *text += piece; });
  const int32_t id = 100;
  engine.Reset();
  const auto logits = engine.Feed({&id, 1});
  return {logits.begin(), logits.end()};
}

struct Written {
  std::string text;
  std::vector<float> logits;
};

Written Generate(const std::string& model, const std::string& placement) {
  EngineOptions options;
  options.model_path = model;
  options.placement_path = placement;
  options.n_threads = 2;
  Engine engine(options);
  Written written;
  written.logits = LastLogits(engine, &written.text);
  return written;
}

class PackTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    model_ = GetParam() == "demo" ? DemoModel() : GoldenModel(GetParam());
    WriteShuffledPlacement(model_, dir_.file("placement"));
  }
  TempDir dir_;
  std::string model_;
};

TEST_P(PackTest, WritesTheSameTextWithThePlacementAndWithout) {
  const PackReport report = Pack(model_, dir_.file("placement"), dir_.file("packed"));
  EXPECT_EQ(report.requantised_down, GetParam() == "demo");
  const Written stock = Generate(model_, dir_.file("placement"));
  const Written packed = Generate(dir_.file("packed"), dir_.file("placement"));
  EXPECT_EQ(packed.text, stock.text);
  EXPECT_EQ(packed.logits, stock.logits) << "the same weights in the same order: the same bits";
  // One tier sums in another order, and where activations are rounded to int8 a sum near the middle
  // of two steps goes to the other one. That makes some hundredths in logits that span 20.
  const Written alone = Generate(dir_.file("packed"), "");
  ASSERT_EQ(alone.logits.size(), stock.logits.size());
  for (size_t i = 0; i < alone.logits.size(); ++i) {
    ASSERT_NEAR(alone.logits[i], stock.logits[i], 0.1) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PackTest,
                         testing::Values("gqa_relu", "mha_silu_tied", "mqa_relu_sqr", "demo"));

TEST(PackLayoutTest, PutsEachNeuronsRowsInThePlacementsOrder) {
  TempDir dir;
  const std::string model = GoldenModel("gqa_relu");
  WriteShuffledPlacement(model, dir.file("placement"));
  Pack(model, dir.file("placement"), dir.file("packed"));
  const GgufReader source(model);
  const GgufReader packed(dir.file("packed"));
  EXPECT_TRUE(IsPacked(packed));
  EXPECT_EQ(packed.alignment(), 64U);
  EXPECT_EQ(packed.GetString(kPackedSourceKey), source.fingerprint());
  const Placement placement = ReadPlacement(dir.file("placement"));
  const int64_t d = 64;
  const int64_t d_ff = 96;
  const auto row = [](const TensorView& view, int64_t r) {
    return reinterpret_cast<const float*>(view.row(r));
  };
  for (size_t layer = 0; layer < placement.layers.size(); ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const TensorView gate = packed.RequireMatrix(prefix + "ffn_gate.weight", d_ff, d);
    const TensorView up_down = packed.RequireMatrix(prefix + "ffn_up_down.weight", d_ff, 2 * d);
    const TensorView old_gate = source.RequireMatrix(prefix + "ffn_gate.weight", d_ff, d);
    const TensorView old_up = source.RequireMatrix(prefix + "ffn_up.weight", d_ff, d);
    const TensorView old_down = source.RequireMatrix(prefix + "ffn_down.weight", d, d_ff);
    for (int64_t i = 0; i < d_ff; ++i) {
      const int32_t id = placement.layers[layer].neuron_order[static_cast<size_t>(i)];
      for (int64_t c = 0; c < d; ++c) {
        ASSERT_EQ(row(gate, i)[c], row(old_gate, id)[c]);
        ASSERT_EQ(row(up_down, i)[c], row(old_up, id)[c]);
        ASSERT_EQ(row(up_down, i)[d + c], row(old_down, c)[id]);
      }
    }
    EXPECT_EQ(packed.FindTensor(prefix + "ffn_up.weight"), nullptr);
    EXPECT_EQ(packed.FindTensor(prefix + "ffn_down.weight"), nullptr);
  }
}

TEST(PackLayoutTest, QuantisesFromTheOriginalOnce) {
  TempDir dir;
  const std::string model = GoldenModel("gqa_relu");
  WriteShuffledPlacement(model, dir.file("placement"));
  PackOptions options;
  options.placement_path = dir.file("placement");
  options.rule = TypeRule{DType::kQ8_0, false};
  const PackReport report = PackModel(model, dir.file("packed"), options);
  EXPECT_FALSE(report.requantised_down);
  for (const TensorChange& change : report.changes) {
    EXPECT_EQ(change.to, DType::kQ8_0) << change.name;
    EXPECT_GT(change.relative_rms_error, 0) << change.name;
    EXPECT_LT(change.relative_rms_error, 0.01) << change.name;
  }
  EXPECT_FALSE(Generate(dir.file("packed"), dir.file("placement")).logits.empty());
}

TEST(PackLayoutTest, JoinsTwoTypesInTheLargerOne) {
  TempDir dir;
  // `quantize` leaves down at F16 when d_ff is no multiple of 32. Here the types are set by hand:
  // up Q8_0, down F32.
  const GgufReader source(GoldenModel("gqa_relu"));
  GgufWriter writer(dir.file("mixed"));
  CopyMetadata(source, std::nullopt, writer);
  std::vector<std::byte> row(static_cast<size_t>(RowBytes(DType::kQ8_0, 64)));
  const auto is_up = [](const std::string& name) { return name.ends_with("ffn_up.weight"); };
  for (const GgufTensorInfo& tensor : source.tensors()) {
    writer.DeclareTensor(tensor.name, is_up(tensor.name) ? DType::kQ8_0 : tensor.dtype,
                         tensor.dims);
  }
  TensorCopier copier(writer, 1, 1, "", {});
  for (const GgufTensorInfo& tensor : source.tensors()) {
    if (is_up(tensor.name)) {
      const TensorView up = source.RequireMatrix(tensor.name, 96, 64);
      copier.Convert(tensor.name, RowsOf("", tensor.name, up), DType::kQ8_0);
    } else {
      copier.Copy(tensor.name, source.TensorData(tensor), tensor.n_bytes);
    }
  }
  writer.Finish();
  WriteShuffledPlacement(dir.file("mixed"), dir.file("placement"));
  const PackReport report = Pack(dir.file("mixed"), dir.file("placement"), dir.file("packed"));
  EXPECT_TRUE(report.widened);
  const GgufReader packed(dir.file("packed"));
  EXPECT_EQ(packed.FindTensor("blk.0.ffn_up_down.weight")->dtype, DType::kF32);
  // Rows of Q8_0 take activations in int8, and the same rows widened to F32 take them as they are.
  const Written joined = Generate(dir.file("packed"), dir.file("placement"));
  const Written mixed = Generate(dir.file("mixed"), dir.file("placement"));
  double squared_difference = 0;
  double squared = 0;
  for (size_t i = 0; i < mixed.logits.size(); ++i) {
    squared_difference += std::pow(joined.logits[i] - mixed.logits[i], 2);
    squared += std::pow(mixed.logits[i], 2);
  }
  EXPECT_LT(std::sqrt(squared_difference / squared), 0.02);
}

// Of two layers the last is one where the mix gives down more bits. Rows of 64 hold no blocks of
// 256.
TEST(PackLayoutTest, AMixStoresUpAsWideAsDown) {
  TempDir dir;
  WriteShuffledPlacement(GoldenModel("gqa_relu"), dir.file("placement"));
  PackOptions options;
  options.placement_path = dir.file("placement");
  options.rule = ParseTypeRule("Q4_K_M");
  const PackReport report = PackModel(GoldenModel("gqa_relu"), dir.file("packed"), options);
  EXPECT_TRUE(report.widened);
  const GgufReader packed(dir.file("packed"));
  EXPECT_EQ(packed.FindTensor("blk.0.ffn_up_down.weight")->dtype, DType::kQ5_0);
  EXPECT_EQ(packed.FindTensor("blk.1.ffn_up_down.weight")->dtype, DType::kQ8_0);
  EXPECT_EQ(packed.FindTensor("blk.1.ffn_gate.weight")->dtype, DType::kQ5_0);
  EXPECT_EQ(packed.GetU64("general.file_type"), 15U);
  for (const TensorChange& change : report.changes) EXPECT_TRUE(change.unfit) << change.name;
}

TEST(PackLayoutTest, PackedModelsAreNotPackedAgain) {
  TempDir dir;
  WriteShuffledPlacement(GoldenModel("gqa_relu"), dir.file("placement"));
  Pack(GoldenModel("gqa_relu"), dir.file("placement"), dir.file("packed"));
  EXPECT_THROW(Pack(dir.file("packed"), dir.file("placement"), dir.file("again")), Error);
  EXPECT_EQ(dir.n_entries(), 2U);
}

}  // namespace
}  // namespace thermocline
