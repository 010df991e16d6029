// Synthetic gates of a known rank.
#include "runtime/synth/synth_factors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "runtime/gguf/gguf_reader.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

SynthOptions FactoredModel() {
  SynthOptions options;
  options.n_layers = 2;
  options.d_model = 96;
  options.d_ff = 160;
  options.n_heads = options.n_kv_heads = 2;
  options.vocab_size = 300;
  options.dtype = DType::kF32;
  options.activation = Activation::kRelu;
  options.activity = ActivityTarget{0.2, 0.25, 0.6};
  options.gate_rank = 32;
  return options;
}

TEST(SynthFactors, TheGatesOfTheFileAreTheirProducts) {
  const TempDir directory;
  const SynthOptions options = FactoredModel();
  WriteSynthModel(directory.file("model.gguf"), options);
  const GgufReader gguf(directory.file("model.gguf"));
  for (int64_t layer = 0; layer < 2; ++layer) {
    const TensorView gate =
        gguf.RequireMatrix("blk." + std::to_string(layer) + ".ffn_gate.weight", 160, 96);
    const LowRank factors = GateFactors(options, layer).Scaled();
    ASSERT_EQ(factors.in_proj.size(), 32U * 96);
    ASSERT_EQ(factors.out_proj.size(), 160U * 32);
    double squares = 0;
    for (int64_t i = 0; i < 160; ++i) {
      for (int64_t c = 0; c < 96; ++c) {
        double product = 0;
        for (int64_t r = 0; r < 32; ++r) {
          product += static_cast<double>(factors.out_proj[static_cast<size_t>(i * 32 + r)]) *
                     factors.in_proj[static_cast<size_t>(r * 96 + c)];
        }
        float stored = 0;
        std::memcpy(&stored, gate.row(i) + c * 4, sizeof(stored));
        ASSERT_NEAR(stored, product, 1e-6) << layer << " " << i << " " << c;
        squares += product * product;
      }
    }
    // Weights have a variance of 1 / d_model, as random gates of full rank have.
    EXPECT_NEAR(squares / 160, 1, 0.1);
  }
}

TEST(SynthFactors, EveryLayerAndSeedHasItsOwn) {
  SynthOptions options = FactoredModel();
  std::set<std::vector<float>> all;
  for (const uint64_t seed : {1U, 2U}) {
    options.seed = seed;
    for (const int64_t layer : {0, 1}) {
      const LowRank factors = GateFactors(options, layer).Scaled();
      all.insert(factors.in_proj);
      all.insert(factors.out_proj);
    }
  }
  EXPECT_EQ(all.size(), 8U);
}

TEST(SynthFactors, RowsAreTheSameHoweverTheyAreMade) {
  const SynthOptions options = FactoredModel();
  const GateFactors factors(options, 1);
  std::vector<float> whole(160 * 96);
  factors.MakeRows(0, 160, whole.data());
  std::vector<float> row(96);
  for (const int64_t i : {0, 1, 63, 64, 159}) {
    factors.MakeRows(i, i + 1, row.data());
    EXPECT_EQ(row, std::vector<float>(whole.begin() + i * 96, whole.begin() + (i + 1) * 96)) << i;
  }
}

TEST(SynthFactors, TheSameFileForAnyNumberOfThreads) {
  const TempDir directory;
  for (const DType dtype : {DType::kF32, DType::kQ4_0}) {
    SynthOptions options = FactoredModel();
    options.dtype = dtype;
    WriteSynthModel(directory.file("one.gguf"), options);
    options.n_threads = 3;
    WriteSynthModel(directory.file("three.gguf"), options);
    const std::string one = ReadWholeFile(directory.file("one.gguf"));
    EXPECT_EQ(one, ReadWholeFile(directory.file("three.gguf")));
    options.gate_rank = 0;
    WriteSynthModel(directory.file("full.gguf"), options);
    EXPECT_NE(one, ReadWholeFile(directory.file("full.gguf")));
  }
}

TEST(SynthFactors, RanksThatDoNotFitAreErrors) {
  for (const int64_t rank : {-32, 1, 33, 128}) {
    SynthOptions options = FactoredModel();
    options.gate_rank = rank;
    EXPECT_THAT(MessageOf([&] { CheckSynthOptions(options); }),
                AllOf(HasSubstr("the rank of the gates: expected a multiple of 32, at most 96"),
                      HasSubstr(std::to_string(rank))));
  }
  SynthOptions options = FactoredModel();
  options.gate_rank = 96;
  EXPECT_EQ(MessageOf([&] { CheckSynthOptions(options); }), "");
}

}  // namespace
}  // namespace thermocline
