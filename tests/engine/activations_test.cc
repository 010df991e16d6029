// Activations of 16 bits, seen from the engine: how much closer the logits come to those of the
// same weights in F32, which are multiplied by activations in f32, and that the promises of same
// bits hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/convert/quantize_model.h"
#include "runtime/engine/engine.h"
#include "runtime/synth/synth.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

constexpr size_t kPrompt = 24;  // more than few tokens: a batch
constexpr size_t kRows = 8;

std::vector<int32_t> TokensOf(int seed, size_t length) {
  std::vector<int32_t> ids;
  while (ids.size() < length) {
    ids.push_back(3 + (seed * 37 + static_cast<int32_t>(ids.size()) * 11) % 250);
  }
  return ids;
}

class Activations : public ::testing::Test {
 protected:
  // Nothing but the type of the weights: their activation has no true zeros, so that no down
  // projection is stored otherwise.
  std::string Model(DType dtype) const {
    std::string path = dir_.file(std::string(DTypeName(dtype)) + ".gguf");
    SynthOptions synth;
    synth.n_layers = 3;
    synth.d_model = 256;
    synth.d_ff = 512;
    synth.n_heads = 4;
    synth.n_kv_heads = 2;
    synth.vocab_size = 512;
    synth.max_seq_len = 128;
    synth.dtype = dtype;
    WriteSynthModel(path, synth);
    return path;
  }

  static EngineOptions OptionsFor(const std::string& model, int activation_bits) {
    EngineOptions options;
    options.model_path = model;
    options.activation_bits = activation_bits;
    options.cache_type = DType::kF32;  // nothing else is rounded
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    options.n_sequences = kRows;
    options.context_tokens = 96;
    return options;
  }

  // Returns the logits of a prompt, and then of each of some tokens.
  static std::vector<std::vector<float>> LogitsOf(Engine& engine, int seed) {
    std::vector<std::vector<float>> all;
    engine.Reset();
    const auto keep = [&](std::span<const float> logits) {
      all.emplace_back(logits.begin(), logits.end());
    };
    keep(engine.Feed(TokensOf(seed, kPrompt)));
    for (const int32_t id : TokensOf(seed + 100, kRows)) keep(engine.Feed({&id, 1}));
    return all;
  }

  // Returns the root of the mean square of a - b over that of b, of passes [begin, end).
  static double Apart(const std::vector<std::vector<float>>& a,
                      const std::vector<std::vector<float>>& b, size_t begin, size_t end) {
    double difference = 0;
    double size = 0;
    for (size_t p = begin; p < end; ++p) {
      for (size_t i = 0; i < b[p].size(); ++i) {
        difference += std::pow(static_cast<double>(a[p][i]) - b[p][i], 2);
        size += std::pow(static_cast<double>(b[p][i]), 2);
      }
    }
    return std::sqrt(difference / size);
  }

  TempDir dir_;
};

// Each type is multiplied by other kernels. Where batches are multiplied in f32 anyway, 16 bits are
// not closer there.
TEST_F(Activations, OfSixteenBitsGiveLogitsNearThoseOfF32) {
  for (const DType dtype :
       {DType::kQ8_0, DType::kQ4_1, DType::kQ4_0, DType::kQ4_K, DType::kQ6_K, DType::kQ5_0}) {
    SCOPED_TRACE(DTypeName(dtype));
    const std::string model = Model(dtype);
    const std::string f32_model = dir_.file("f32.gguf");
    QuantizeModel(model, f32_model, {.rule = {.dtype = DType::kF32, .pure = true}, .progress = {}});
    Engine f32(OptionsFor(f32_model, 8));
    Engine narrow(OptionsFor(model, 8));
    Engine wide(OptionsFor(model, 16));
    const auto expected = LogitsOf(f32, 1);
    const auto rounded = LogitsOf(narrow, 1);
    const auto precise = LogitsOf(wide, 1);
    EXPECT_LT(Apart(precise, expected, 0, 1), 1e-4);
    EXPECT_LT(Apart(precise, expected, 1, kRows + 1), 1e-4);
    EXPECT_LT(Apart(precise, expected, 1, kRows + 1), Apart(rounded, expected, 1, kRows + 1) / 50);
  }
}

TEST_F(Activations, OfSixteenBitsChangeNoBitOfF16) {
  const std::string model = Model(DType::kF16);
  Engine narrow(OptionsFor(model, 8));
  Engine wide(OptionsFor(model, 16));
  EXPECT_EQ(LogitsOf(wide, 1), LogitsOf(narrow, 1));
}

// A pass of up to 8 rows is one of 16 vectors.
TEST_F(Activations, FewRowsHaveTheBitsOfEachAlone) {
  const std::string demo =
      std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/classics-9m-relu-q8_0.gguf";
  for (const std::string& model : {demo, Model(DType::kQ4_1), Model(DType::kQ4_K)}) {
    Engine engine(OptionsFor(model, 16));
    const auto width = static_cast<size_t>(engine.config().vocab_size);
    std::vector<std::vector<std::vector<float>>> alone;
    for (size_t i = 0; i < kRows; ++i) alone.push_back(LogitsOf(engine, static_cast<int>(i)));
    engine.Reset();
    std::vector<std::vector<int32_t>> prompts, tokens;
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < kRows; ++i) {
      prompts.push_back(TokensOf(static_cast<int>(i), kPrompt));
      tokens.push_back(TokensOf(static_cast<int>(i) + 100, kRows));
    }
    for (size_t i = 0; i < kRows; ++i) {
      inputs.push_back({i == 0 ? engine.main_sequence() : engine.sequences().Add(), prompts[i]});
      engine.FeedSequences({&inputs.back(), 1});
    }
    for (size_t t = 0; t < kRows; ++t) {
      for (size_t i = 0; i < kRows; ++i) inputs[i].ids = {&tokens[i][t], 1};
      const auto logits = engine.FeedSequences(inputs);
      for (size_t i = 0; i < kRows; ++i) {
        const auto row = logits.subspan(i * width, width);
        EXPECT_EQ(std::vector<float>(row.begin(), row.end()), alone[i][t + 1])
            << model << ", sequence " << i << ", token " << t;
      }
    }
  }
}

TEST_F(Activations, TheThreadCountChangesNoBit) {
  EngineOptions options = OptionsFor(Model(DType::kQ4_1), 16);
  options.n_threads = 1;
  Engine one(options);
  const auto expected = LogitsOf(one, 3);
  for (const int n_threads : {2, 5}) {
    options.n_threads = n_threads;
    Engine engine(options);
    EXPECT_EQ(LogitsOf(engine, 3), expected) << n_threads << " threads";
  }
}

// Queries are rounded as activations are where keys are stored in 8 bits.
TEST_F(Activations, OfAQ8CacheAreOfSixteenBitsToo) {
  const std::string model = Model(DType::kF16);
  const auto logits_with = [&](DType cache_type, int bits) {
    EngineOptions options = OptionsFor(model, bits);
    options.cache_type = cache_type;
    Engine engine(options);
    return LogitsOf(engine, 2);
  };
  EXPECT_NE(logits_with(DType::kQ8_0, 16), logits_with(DType::kQ8_0, 8));
  EXPECT_LT(Apart(logits_with(DType::kQ8_0, 16), logits_with(DType::kQ8_0, 8), 0, kRows + 1), 0.02);
}

TEST_F(Activations, ThePlanIsWhatIsAllocated) {
  EngineOptions options = OptionsFor(Model(DType::kQ4_1), 16);
  options.copy_weights = true;
  const MemoryPlan wide = OpenedModel(options).Plan();
  const Engine engine(options);
  options.activation_bits = 8;
  const Engine narrow(options);
  const MemoryPlan plan = OpenedModel(options).Plan();
  EXPECT_GT(wide.total_bytes(0), plan.total_bytes(0));
  EXPECT_EQ(engine.allocated_bytes() - narrow.allocated_bytes(),
            wide.total_bytes(0) - plan.total_bytes(0));
}

}  // namespace
}  // namespace thermocline
