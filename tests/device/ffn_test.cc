// The FFN of few tokens, part by part of the neurons, compared with double arithmetic and exact
// with dense; and what must not change its bits.
#include <string>

#include "tests/device/ffn_fixture.h"

namespace thermocline {
namespace {

// There are cases of one type, of mixed ones (that want x in different forms), of odd numbers of
// neurons, of fewer neurons than parts, and of enough bytes for more than the fewest parts.
const std::vector<FfnCase> kCases = {
    {DType::kF32, DType::kF32, DType::kF32, 100, 96},
    {DType::kQ8_0, DType::kF16, DType::kF32, 333, 128, Activation::kRelu, true},
    {DType::kF16, DType::kQ4_0, DType::kQ8_0, 257, 160, Activation::kRelu, true, true},
    {DType::kBF16, DType::kQ8_0, DType::kQ4_0, 64, 64, Activation::kRelu, false, true},
    {DType::kQ4_0, DType::kQ4_0, DType::kQ4_0, 31, 32},
    {DType::kQ6_K, DType::kQ6_K, DType::kQ6_K, 257, 256, Activation::kRelu, true, true},
    {DType::kF16, DType::kF16, DType::kF16, 1, 32, Activation::kRelu, true},
    {DType::kF32, DType::kF16, DType::kF32, 1000, 1024},
    {.gate = DType::kQ8_0,
     .up = DType::kF16,
     .down = DType::kF32,
     .n_neurons = 334,
     .d_model = 128,
     .bias = true,
     .plain = true},
    {.gate = DType::kF32,
     .up = DType::kF16,
     .down = DType::kQ8_0,
     .n_neurons = 335,
     .d_model = 128,
     .activation = Activation::kReluSqr,
     .bias = true,
     .up_bias = true},
    {.gate = DType::kF32,
     .up = DType::kF32,
     .down = DType::kF32,
     .n_neurons = 336,
     .d_model = 128,
     .threshold = 0.05F,
     .relu_up = true},
    {.gate = DType::kQ4_0,
     .up = DType::kQ4_0,
     .down = DType::kF16,
     .n_neurons = 337,
     .d_model = 128,
     .activation = Activation::kReluSqr,
     .h_norm = true},
    {.gate = DType::kQ8_0,
     .up = DType::kF16,
     .down = DType::kF32,
     .n_neurons = 338,
     .d_model = 128,
     .activation = Activation::kGeluTanh,
     .bias = true,
     .cuts_gates = true,
     .gate_cut = 0.8F},
    {.gate = DType::kF32,
     .up = DType::kF32,
     .down = DType::kQ8_0,
     .n_neurons = 339,
     .d_model = 128,
     .activation = Activation::kGeluTanh,
     .plain = true,
     .cuts_gates = true},
    {.gate = DType::kQ8_0,
     .up = DType::kQ4_0,
     .down = DType::kQ4_0,
     .n_neurons = 340,
     .d_model = 160,
     .bias = true,
     .up_bias = true,
     .h_norm = true,
     .alike = true},
    {.gate = DType::kQ4_0,
     .up = DType::kQ8_0,
     .down = DType::kF16,
     .n_neurons = 341,
     .d_model = 128,
     .threshold = 0.05F,
     .relu_up = true,
     .alike = true},
    {.gate = DType::kQ4_1,
     .up = DType::kQ4_1,
     .down = DType::kQ4_1,
     .n_neurons = 342,
     .d_model = 96,
     .plain = true,
     .alike = true},
    {.gate = DType::kQ4_1,
     .up = DType::kQ8_0,
     .down = DType::kQ4_0,
     .n_neurons = 343,
     .d_model = 160,
     .bias = true,
     .activation_bits = 16},
    {.gate = DType::kQ4_K,
     .up = DType::kQ6_K,
     .down = DType::kF16,
     .n_neurons = 344,
     .d_model = 256,
     .h_norm = true,
     .alike = true,
     .activation_bits = 16},
};

// Tokens of a pass that are few.
constexpr int64_t kFewCounts[] = {1, 2, 3, 5, kFewTokens};

class FfnTest : public ::testing::TestWithParam<FfnCase> {};

TEST_P(FfnTest, DenseMatchesDoubleAndCountsAll) {
  const Ffn ffn(GetParam());
  for (const int64_t n : kFewCounts) {
    const FfnResult result = ffn.Run({.n = n, .n_lanes = 2, .exact = false});
    EXPECT_EQ(result.n_active, n * GetParam().n_neurons);
    ffn.ExpectMatchesDouble(result, n);
  }
}

TEST_P(FfnTest, ExactGivesTheBitsOfDenseAndCountsTheActive) {
  const Ffn ffn(GetParam());
  for (const int64_t n : kFewCounts) {
    const FfnResult dense = ffn.Run({.n = n, .n_lanes = 2, .exact = false});
    const FfnResult exact = ffn.Run({.n = n, .n_lanes = 2, .exact = true});
    EXPECT_EQ(exact.y, dense.y);
    EXPECT_EQ(exact.n_active, ffn.ExpectMatchesDouble(exact, n));
  }
}

TEST_P(FfnTest, LanesAndTokensBesideItChangeNoBitOfAToken) {
  const Ffn ffn(GetParam());
  const auto d_model = static_cast<std::ptrdiff_t>(GetParam().d_model);
  for (const bool exact : {false, true}) {
    for (const int64_t n : kFewCounts) {
      const FfnResult one = ffn.Run({.n = n, .n_lanes = 1, .exact = exact});
      for (int n_lanes = 2; n_lanes <= 5; ++n_lanes) {
        const FfnResult several = ffn.Run({.n = n, .n_lanes = n_lanes, .exact = exact});
        EXPECT_EQ(several.y, one.y) << n_lanes << " lanes";
        EXPECT_EQ(several.n_active, one.n_active);
      }
      for (int64_t t = 0; t < n; ++t) {
        const auto at = one.y.begin() + t * d_model;
        EXPECT_EQ(ffn.Run({.n = 1, .n_lanes = 2, .exact = exact, .first = t}).y,
                  std::vector<float>(at, at + d_model));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FfnTest, ::testing::ValuesIn(kCases), [](const auto& test) {
  const FfnCase& c = test.param;
  std::string name;
  for (const DType dtype : {c.gate, c.up, c.down}) name += std::string(DTypeName(dtype)) + "_";
  return name + std::to_string(c.n_neurons);
});

TEST(FfnWithoutZeros, DenseMatchesDouble) {
  for (const Activation activation :
       {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    for (const bool plain : {false, true}) {
      FfnCase c = {DType::kQ8_0, DType::kF16, DType::kF32, 333, 128, activation, true};
      c.plain = plain;
      const Ffn ffn(c);
      const FfnResult result = ffn.Run({.n = 3, .n_lanes = 2, .exact = false});
      ffn.ExpectMatchesDouble(result, 3);
      EXPECT_EQ(ffn.Run({.n = 3, .n_lanes = 5, .exact = false}).y, result.y);
    }
  }
}

// Batches run as panels.
TEST(FfnBatches, OfEveryKindMatchDouble) {
  for (const int bits : {8, 16}) {
    for (FfnCase c : kCases) {
      if (c.n_neurons < 333 || c.n_neurons > 339) continue;
      c.side_by_side = false;
      c.in_batches = true;
      c.activation_bits = bits;
      const Ffn ffn(c);
      const FfnResult result = ffn.Run({.n = kFewTokens + 1, .n_lanes = 2, .exact = false});
      ffn.ExpectMatchesDouble(result, kFewTokens + 1);
    }
  }
}

}  // namespace
}  // namespace thermocline
