// The type of the stored keys and values, seen from the engine: what it changes in the logits, and
// the memory that is planned and taken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "tests/placement/placements.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

EngineOptions OptionsFor(const std::string& model, DType cache_type) {
  EngineOptions options;
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/" + model;
  options.cache_type = cache_type;
  options.n_threads = 2;
  return options;
}

// Returns the logits after a prompt of 20 tokens and after each of 12 more.
std::vector<float> LogitsOf(const EngineOptions& options) {
  Engine engine(options);
  std::vector<float> all;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 32; ++i) ids.push_back(3 + i * 7 % 60);
  const auto keep = [&](std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  };
  keep(engine.Feed(std::span(ids).first(20)));
  for (size_t i = 20; i < ids.size(); ++i) keep(engine.Feed(std::span(ids).subspan(i, 1)));
  return all;
}

// Returns the root of the mean square of a - b over that of b.
double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

uint64_t MappedBytes(const Engine& engine) {
  const ModelConfig& config = engine.config();
  const auto norms = static_cast<uint64_t>((2 * config.n_layers + 1) * config.d_model);
  return engine.weights().token_embd.weight_bytes() + norms * sizeof(float);
}

const std::vector<std::string> kModels = {"tests/golden/wide_heads.gguf",
                                          "tests/golden/rope_yarn.gguf",
                                          "tools/demo.d/classics-9m-relu-q8_0.gguf"};

// 8 bits per block of 32 round keys and values by about 0.5 % of their size, and attention is one
// of the parts that make a logit. Keys of another position or head would change logits by their own
// size.
TEST(CacheType, Q8LogitsStayNearThoseOfF16) {
  for (const std::string& model : kModels) {
    SCOPED_TRACE(model);
    const std::vector<float> f16 = LogitsOf(OptionsFor(model, DType::kF16));
    const std::vector<float> q8 = LogitsOf(OptionsFor(model, DType::kQ8_0));
    ASSERT_EQ(q8.size(), f16.size());
    EXPECT_GT(RelativeDifference(q8, f16), 0.0);
    EXPECT_LT(RelativeDifference(q8, f16), 0.06);
  }
}

TEST(CacheType, TheThreadCountChangesNoBitOfAQ8Run) {
  EngineOptions options = OptionsFor(kModels.front(), DType::kQ8_0);
  options.n_threads = 1;
  const std::vector<float> one = LogitsOf(options);
  for (const int n_threads : {2, 3, 5}) {
    options.n_threads = n_threads;
    EXPECT_EQ(LogitsOf(options), one) << n_threads << " threads";
  }
}

TEST(CacheType, AModelWithNarrowHeadsCannotHaveAQ8Cache) {
  const EngineOptions options = OptionsFor("tests/golden/mha_silu_tied.gguf", DType::kQ8_0);
  const std::string message = MessageOf([&] { OpenedModel(options).Plan(); });
  EXPECT_THAT(message, testing::HasSubstr("the KV cache cannot be stored as Q8_0"));
  EXPECT_THAT(message, testing::HasSubstr("store keys and values in f16"));
  EXPECT_EQ(MessageOf([&] { Engine{options}; }), message);
}

// Where matrices are copied, all of them lie in the devices' memory, and what was planned is what
// is taken. Only the embedding table and the norms are still read from the file.
TEST(MemoryPlan, EqualsWhatIsAllocated) {
  const TempDir dir;
  for (const std::string& model : kModels) {
    for (const DType cache_type : {DType::kF16, DType::kQ8_0}) {
      for (const double hot_share : {-1.0, 0.0, 0.4, 1.0}) {
        for (const int64_t context : {33, 64}) {
          SCOPED_TRACE(model + ", " + std::string(DTypeName(cache_type)) + ", hot " +
                       std::to_string(hot_share) + ", context " + std::to_string(context));
          EngineOptions options = OptionsFor(model, cache_type);
          options.context_tokens = context;
          options.batch_tokens = 16;
          options.n_threads = 3;
          options.copy_weights = true;
          if (hot_share >= 0) {
            const OpenedModel opened(options);
            options.placement_path = dir.file("p.gguf");
            WritePlacement(options.placement_path,
                           ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                             opened.config().d_ff, hot_share));
          }
          const MemoryPlan plan = OpenedModel(options).Plan();
          const Engine engine(options);
          EXPECT_EQ(engine.allocated_bytes() + MappedBytes(engine),
                    plan.total_bytes(0) + plan.total_bytes(1));
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
