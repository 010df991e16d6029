// Models and adapters for the tests of LoRA, and the logits that engines give with them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/import/import_model.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

// In f32 throughout, sums alone differ; logits span tens.
inline constexpr double kTolerance = 1e-3;

inline std::string LoraFamilies() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/";
}

inline nlohmann::json ReadGolden(const std::string& family) {
  std::ifstream file(LoraFamilies() + family + "/golden.json");
  return nlohmann::json::parse(file);
}

template <typename Values>
double LogitGap(std::span<const float> found, const Values& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double most = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    const double gap = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    most = std::isnan(gap) ? INFINITY : std::max(most, gap);
  }
  return most;
}

class LoraTest : public testing::Test {
 protected:
  // The model of a directory, converted in F32.
  std::string Import(const std::string& directory, const std::string& name = "model.gguf") const {
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(directory, dir_.file(name), options);
    return dir_.file(name);
  }
  std::string ImportFamily(const std::string& family) const {
    return Import(LoraFamilies() + family);
  }

  static EngineOptions Options(const std::string& model, std::vector<LoraOption> loras,
                               const std::string& sparse = "dense", int64_t batch_tokens = 512) {
    EngineOptions options;
    options.model_path = model;
    options.loras = std::move(loras);
    options.sparse = sparse;
    options.batch_tokens = batch_tokens;
    options.cache_type = DType::kF32;
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 1;
    options.context_tokens = 72;
    return options;
  }

  // The logits after a prompt, fed as options say, and after each of some further tokens.
  static std::vector<float> LogitsOf(const EngineOptions& options,
                                     const std::vector<int32_t>& ids) {
    Engine engine(options);
    std::vector<float> all;
    const auto add = [&](std::span<const float> logits) {
      all.insert(all.end(), logits.begin(), logits.end());
    };
    add(engine.Feed(ids));
    for (const int32_t id : {7, 70, 170}) add(engine.Feed({&id, 1}));
    return all;
  }

  static std::vector<int32_t> PromptOf(const std::string& family) {
    return ReadGolden(family)["prompts"][0]["ids"].get<std::vector<int32_t>>();
  }

  TempDir dir_;
};

}  // namespace thermocline
