// Compares logits, hidden states and greedy tokens with implementations that are not ours:
// transformers on tiny seeded models (tests/golden, see its README) and, where the data is there,
// the classics model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

struct GoldenCase {
  std::string model;
  std::string json;
  double logits_tolerance;
  double hidden_tolerance;
};

std::string GoldenPath(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + name;
}
std::string SharedModel(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/models/" + name;
}

double MaxDifference(std::span<const float> found, const Json& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double most = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(found[i]) - expected[i].get<double>()));
  }
  return most;
}

int32_t Argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<int32_t> Greedy(Engine& engine, std::span<const float> logits, size_t n) {
  std::vector<int32_t> ids;
  while (ids.size() < n) {
    const int32_t id = Argmax(logits);
    ids.push_back(id);
    if (ids.size() < n) logits = engine.Feed(std::vector<int32_t>{id});
  }
  return ids;
}

void CheckPrompt(Engine& engine, const Json& prompt, const GoldenCase& golden) {
  const auto ids = prompt["ids"].get<std::vector<int32_t>>();
  engine.Reset();
  engine.executor().set_keep_hidden(true);
  if (prompt.contains("text")) {
    EXPECT_EQ(engine.tokenizer().EncodePrompt(prompt["text"].get<std::string>()), ids);
  }
  const auto logits = engine.Feed(ids);
  EXPECT_LE(MaxDifference(logits, prompt["logits_last"]), golden.logits_tolerance);
  const auto& hidden = prompt["hidden_last_token_per_layer"];
  const auto d_model = static_cast<size_t>(engine.config().d_model);
  for (size_t layer = 0; layer < hidden.size(); ++layer) {
    const auto found = engine.executor().hidden().subspan(layer * d_model, d_model);
    EXPECT_LE(MaxDifference(found, hidden[layer]), golden.hidden_tolerance)
        << "after layer " << layer;
  }
  const auto greedy = prompt["greedy_ids"].get<std::vector<int32_t>>();
  EXPECT_EQ(Greedy(engine, logits, greedy.size()), greedy);
}

void CheckGolden(const GoldenCase& golden, const std::string& sparse, int64_t batch_tokens) {
  SCOPED_TRACE(golden.json + ", " + sparse + ", batches of " + std::to_string(batch_tokens));
  std::ifstream file(golden.json);
  ASSERT_TRUE(file.good()) << golden.json;
  const Json json = Json::parse(file);
  EngineOptions options;
  options.model_path = golden.model;
  options.sparse = sparse;
  options.batch_tokens = batch_tokens;
  options.n_threads = 2;
  Engine engine(options);
  for (const Json& prompt : json["prompts"]) CheckPrompt(engine, prompt, golden);
}

class TransformersGolden : public testing::TestWithParam<const char*> {};

// The tolerance covers the f16 KV cache (up to 5.4e-3 on these models, see tests/golden/README.md).
TEST_P(TransformersGolden, LogitsHiddenStatesAndGreedyTokens) {
  const std::string name = GetParam();
  const GoldenCase golden{GoldenPath(name + ".gguf"), GoldenPath(name + ".json"), 1e-2, 1e-2};
  for (const char* sparse : {"dense", "auto"}) {
    for (const int64_t batch : {512, 5, 1}) CheckGolden(golden, sparse, batch);
  }
}

INSTANTIATE_TEST_SUITE_P(Llama, TransformersGolden,
                         testing::Values("mha_silu_tied", "gqa_relu", "mqa_relu_sqr", "rope_linear",
                                         "rope_yarn", "rope_llama3", "wide_heads",
                                         "rope_theta_500k", "rope_partial"));

// In f32 the f16 KV cache alone makes 1.7e-3 of the hidden states, which grow up to 16; prompts in
// fixed point of 16 bits add to it.
TEST(ClassicsGolden, LogitsGreedyTokensAndHiddenStates) {
  const GoldenCase golden{SharedModel("classics-9m-relu-f16.gguf"),
                          SharedModel("classics-9m.golden.json"), 2e-3, 3e-3};
  if (!std::filesystem::exists(golden.model)) {
    GTEST_SKIP() << golden.model << " is not there; tests/golden covers the same code";
  }
  for (const char* sparse : {"dense", "exact"}) {
    for (const int64_t batch : {512, 3, 1}) CheckGolden(golden, sparse, batch);
  }
}

}  // namespace
}  // namespace thermocline
