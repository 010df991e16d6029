// The embedded model in mode predicted, its predictors built on the spot.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "profiler/predictors/predictor_build.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/engine/evaluate.h"
#include "tests/placement/placements.h"
#include "tests/support/temp_dir.h"
#include "tools/verbs/cli_options.h"

namespace thermocline {

inline std::string DemoFile(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/" + name;
}

// Predictors of the embedded model: "svd", "ahead" (svd that looks ahead), "sign".
class Predicted : public testing::Test {
 protected:
  static void Build(const std::vector<std::string>& names) {
    dir = new TempDir;
    for (const std::string& name : names) {
      EngineOptions options = Options();
      options.sparse = "dense";
      PredictorOptions predictor;
      predictor.text_path = DemoFile("calibration.txt");
      predictor.kind = name == "sign" ? PredictorKind::kSign : PredictorKind::kSvd;
      predictor.look_ahead = name == "ahead";
      predictor.max_tokens = 8000;
      Engine engine(options);
      WritePredictor(
          dir->file(name),
          BuildPredictor(engine, ReadPredictorTexts(engine.model(), engine.tokenizer(), predictor),
                         predictor));
    }
  }
  static void TearDownTestSuite() {
    delete dir;
    dir = nullptr;
  }
  static EngineOptions Options() {
    EngineOptions options;
    options.model_path = DemoFile("classics-9m-relu-q8_0.gguf");
    options.n_threads = 2;
    return options;
  }
  // Opens an engine with a share of every layer hot; below 0 with one tier.
  static std::unique_ptr<Engine> Open(EngineOptions options, double hot_share) {
    if (hot_share >= 0) options.placement_path = Place(options, hot_share);
    return std::make_unique<Engine>(options);
  }
  static std::string Place(const EngineOptions& options, double hot_share) {
    const OpenedModel opened(options);
    WritePlacement(dir->file("placement"),
                   ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                     opened.config().d_ff, hot_share));
    return dir->file("placement");
  }
  static std::vector<int32_t> Text(const Engine& engine, size_t n_tokens) {
    auto ids = engine.tokenizer().Encode(ReadTextFile(DemoFile("heldout.txt")));
    ids.resize(n_tokens);
    return ids;
  }
  // Returns the logits after each token of a text fed one by one.
  static std::vector<float> Logits(Engine& engine) {
    std::vector<float> all;
    for (const int32_t id : Text(engine, 20)) {
      const auto logits = engine.Feed({&id, 1});
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }
  static PerplexityResult Quality(EngineOptions options, int64_t batch) {
    options.all_logits = true;
    options.context_tokens = 128;
    options.batch_tokens = batch;
    Engine engine(options);
    PerplexityOptions perplexity;
    perplexity.compare_to_dense = true;
    return EvaluatePerplexity(engine, Text(engine, 1000), perplexity);
  }
  static inline TempDir* dir = nullptr;
};

}  // namespace thermocline
