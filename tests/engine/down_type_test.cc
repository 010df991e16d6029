// What a stock file's down projections become where they get a row per neuron, and what that costs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "runtime/load/weights.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weight_reference.h"
#include "tests/tools/models.h"

namespace thermocline::testing {
namespace {

// Normal weights as columns of neurons in a type, and what rounding to it did.
struct StockDown {
  StockDown(DType dtype, int64_t d_model, int64_t d_ff) {
    const std::vector<float> weights = [&] {
      std::mt19937 rng(17);
      return RandomFloats(&rng, d_model * d_ff, 0.02F);
    }();
    bytes.resize(static_cast<size_t>(d_model * RowBytes(dtype, d_ff)));
    view = DenseView(bytes.data(), dtype, d_model, d_ff);
    std::vector<float> decoded(static_cast<size_t>(d_ff));
    for (int64_t r = 0; r < d_model; ++r) {
      const float* const row = weights.data() + r * d_ff;
      QuantizeRow(dtype, row, d_ff, bytes.data() + r * view.row_stride_bytes);
      CpuKernels().dequantize_f32(dtype, view.row(r), 0, d_ff, decoded.data());
      for (int64_t c = 0; c < d_ff; ++c) {
        const double kept = decoded[static_cast<size_t>(c)];
        squared_error += (kept - row[c]) * (kept - row[c]);
        squares += kept * kept;
      }
    }
  }

  std::vector<std::byte> bytes;
  TensorView view;
  double squared_error = 0;
  double squares = 0;  // of the weights as they are stored
};

// Returns what transposing adds, as a share of the squared error that was there.
double AddedError(const StockDown& down, DType stored) {
  std::vector<int32_t> order(static_cast<size_t>(down.view.cols));
  std::iota(order.begin(), order.end(), 0);
  const int64_t stride = RowBytes(stored, down.view.rows);
  std::vector<std::byte> out(static_cast<size_t>(stride * down.view.cols));
  const RequantReport report = TransposeDown(down.view, order, stored, out.data(), stride, 2);
  return report.relative_rms_error * report.relative_rms_error * down.squares / down.squared_error;
}

// Rows of d_model hold blocks of 256 weights, or only of 32.
class DownErrorTest : public ::testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Widths, DownErrorTest, ::testing::Values(512, 288));

TEST_P(DownErrorTest, IsBelowATenthOfWhatTheTypeRoundedOff) {
  const int64_t d_model = GetParam();
  for (const WeightTypeInfo& info : kWeightTypes) {
    const DType dtype = info.stored.dtype;
    if (!info.written || !IsQuantised(dtype)) continue;
    const DType stored = DownTypeOf(dtype, d_model, {});
    const double added = AddedError(StockDown(dtype, d_model, 256), stored);
    EXPECT_LT(added, info.for_down == dtype ? 1.1 : 0.1)
        << DTypeName(dtype) << " in " << DTypeName(stored);
  }
}

// Types that are not written: what ggml's quantisers leave on normal weights, in percent, beside
// what the type of down leaves on weights like theirs.
TEST_P(DownErrorTest, IsBelowATenthForTypesThatAreOnlyRead) {
  constexpr std::pair<DType, double> kPercentLeft[] = {
      {DType::kIQ3_S, 13.7},  {DType::kIQ3_XXS, 18.2}, {DType::kIQ2_S, 24.9},
      {DType::kIQ2_XS, 30.0}, {DType::kIQ2_XXS, 34.3}, {DType::kTQ2_0, 81.0},
      {DType::kTQ1_0, 81.0}};
  const int64_t d_model = GetParam();
  for (const auto& [dtype, percent] : kPercentLeft) {
    const DType stored = DownTypeOf(dtype, d_model, {});
    const StockDown rounded(stored, 256, d_model);
    EXPECT_LT(rounded.squared_error / rounded.squares, 0.1 * percent * percent * 1e-4)
        << DTypeName(dtype) << " in " << DTypeName(stored);
  }
}

TEST(DownTypeTest, FollowsTheFileTheRowsAndTheWish) {
  EXPECT_EQ(DownTypeOf(DType::kQ4_K, 4096, {}), DType::kQ6_K);
  EXPECT_EQ(DownTypeOf(DType::kQ4_K, 576, {}), DType::kQ8_0);
  EXPECT_EQ(DownTypeOf(DType::kQ4_K, 44, {}), DType::kF16);
  EXPECT_EQ(DownTypeOf(DType::kQ4_0, 4096, {}), DType::kQ4_0);
  EXPECT_EQ(DownTypeOf(DType::kBF16, 4096, {}), DType::kBF16);
  EXPECT_EQ(DownTypeOf(DType::kQ4_K, 4096, {.dtype = DType::kQ4_K}), DType::kQ4_K);
  EXPECT_EQ(DownTypeOf(DType::kQ4_K, 4096, {.layout = DownLayout::kStock}), DType::kQ4_K);
}

class DownEngineTest : public ::testing::Test {
 protected:
  void WriteModel(DType dtype, Activation activation) {
    SynthOptions synth;
    synth.n_layers = 2;
    synth.d_model = 256;
    synth.d_ff = 512;
    synth.n_heads = synth.n_kv_heads = 4;
    synth.vocab_size = 260;
    synth.max_seq_len = 64;
    synth.dtype = dtype;
    synth.activation = activation;
    WriteSynthModel(dir_.file("m"), synth);
    options_.model_path = dir_.file("m");
    options_.n_threads = 2;
    options_.fast_tier = FastTier::kCpu;
  }
  // Opens, compares the plan with what is loaded, and runs a token.
  DType LoadedType() {
    Engine engine(options_);
    const MemoryPlan plan = engine.model().Plan();
    for (size_t l = 0; l < plan.layers.size(); ++l) {
      EXPECT_EQ(plan.layers[l].slices[0].bytes,
                engine.weights().layers[l].slices[0].weight_bytes());
    }
    const int32_t id = 5;
    EXPECT_TRUE(std::isfinite(engine.Feed({&id, 1})[0]));
    error_ = engine.requant().relative_rms_error;
    return engine.weights().layers[1].slices[0].down.dtype;
  }
  std::string OpenError() {
    try {
      const OpenedModel model(options_);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  TempDir dir_;
  EngineOptions options_;
  double error_ = 0;
};

TEST_F(DownEngineTest, IsPlannedAndLoadedInTheSameType) {
  WriteModel(DType::kQ4_K, Activation::kRelu);
  const MemoryPlan plan = OpenedModel(options_).Plan();
  ASSERT_EQ(plan.downs.size(), 1U);
  EXPECT_EQ(plan.downs[0].in_file, DType::kQ4_K);
  EXPECT_EQ(plan.downs[0].stored, DType::kQ6_K);
  EXPECT_EQ(plan.downs[0].n_layers, 2);
  EXPECT_EQ(plan.downs[0].file_bytes, 2U * 512 * 144);
  EXPECT_EQ(plan.downs[0].bytes, 2U * 512 * 210);
  EXPECT_EQ(LoadedType(), DType::kQ6_K);
  EXPECT_LT(error_, 0.02);
  options_.down_type = DType::kQ8_0;
  EXPECT_EQ(LoadedType(), DType::kQ8_0);
  EXPECT_LT(error_, 0.006);
  WriteShuffledPlacement(dir_.file("m"), dir_.file("p"));
  options_.placement_path = dir_.file("p");
  options_.down_type.reset();
  Engine placed(options_);
  const LayerWeights& layer = placed.weights().layers[0];
  const MemoryPlan two_tiers = placed.model().Plan();
  const std::vector<MemoryPlan::Slice>& slices = two_tiers.layers[0].slices;
  EXPECT_EQ(slices[0].bytes + slices[1].bytes,
            layer.slices[0].weight_bytes() + layer.slices[1].weight_bytes());
  EXPECT_EQ(layer.slices[1].down.dtype, DType::kQ6_K);
}

TEST_F(DownEngineTest, StaysAsItIsWhereNothingIsSkipped) {
  WriteModel(DType::kQ4_K, Activation::kSilu);
  EXPECT_TRUE(OpenedModel(options_).Plan().downs.empty());
  EXPECT_EQ(LoadedType(), DType::kQ4_K);
  EXPECT_EQ(error_, 0);
}

TEST_F(DownEngineTest, TypesThatCannotBeAreRefused) {
  WriteModel(DType::kQ8_0, Activation::kRelu);
  options_.down_type = DType::kIQ3_S;
  EXPECT_THAT(OpenError(),
              ::testing::HasSubstr("the type of down projections: expected F32, F16, BF16, Q8_0"));
  options_.model_path = GoldenModel("gqa_relu");  // d_model 64
  options_.down_type = DType::kQ6_K;
  EXPECT_THAT(OpenError(), ::testing::HasSubstr("expected d_model a multiple of 256, found 64"));
}

}  // namespace
}  // namespace thermocline::testing
