// Models in PowerInfer's container: loaded as they are, in every mode, and what is made of them.
// The reference is numpy on the weights as the file holds them (make_files.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/convert/pack_model.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/engine/engine.h"
#include "runtime/placement/powerinfer_file.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::json;

Json Expected() {
  std::ifstream file(PowerInferFile("reglu.json"));
  return Json::parse(file);
}

struct RunSetup {
  std::string model;
  std::string sparse = "dense";
  std::string placement = {};
  bool copy_weights = false;
  int64_t batch_tokens = 512;
};

std::unique_ptr<Engine> Open(const RunSetup& setup) {
  EngineOptions options;
  options.model_path = setup.model;
  options.sparse = setup.sparse;
  options.placement_path = setup.placement;
  options.copy_weights = setup.copy_weights;
  options.batch_tokens = setup.batch_tokens;
  options.n_threads = 2;
  return std::make_unique<Engine>(options);
}

// Returns the logits after the golden's prompt.
std::vector<float> Logits(const RunSetup& setup) {
  const auto engine = Open(setup);
  EXPECT_FALSE(engine->requant().requantised);
  const auto logits = engine->Feed(Expected()["ids"].get<std::vector<int32_t>>());
  return {logits.begin(), logits.end()};
}

double MaxDifference(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double most = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    most = std::max(most, std::abs(static_cast<double>(found[i]) - expected[i]));
  }
  return most;
}

class PowerInferModelTest : public testing::TestWithParam<const char*> {
 protected:
  // The tolerance covers what an f16 KV cache costs on this model (tests/golden); with Q4_0 weights
  // also the rounding of activations to 8 bits.
  double Tolerance() const { return std::string(GetParam()) == "f16" ? 1e-2 : 0.3; }
  std::vector<float> Reference() const { return Expected()[GetParam()]["logits_last"]; }
  std::string Model() const { return PowerInferModel(GetParam()); }
  TempDir dir_;
};

TEST_P(PowerInferModelTest, LogitsInEveryModeAndPlacement) {
  for (const std::string& placement : {std::string(), Gpuidx()}) {
    for (const bool copy : {false, true}) {
      for (const int64_t batch : {512, 1}) {
        const auto run = [&](const char* sparse) {
          return Logits({Model(), sparse, placement, copy, batch});
        };
        SCOPED_TRACE(placement + (copy ? ", copied" : "") + ", batch " + std::to_string(batch));
        const auto dense = run("dense");
        EXPECT_LE(MaxDifference(dense, Reference()), Tolerance());
        EXPECT_LE(MaxDifference(run("exact"), dense), batch == 1 ? 0 : Tolerance());
        if (std::string(GetParam()) == "f16") {  // its predictor is an oracle: see make_files.py
          EXPECT_LE(MaxDifference(run("predicted"), dense), Tolerance());
        }
        EXPECT_EQ(run("auto"), run("exact")) << "ReLU has true zeros";
      }
    }
  }
}

TEST_P(PowerInferModelTest, DownIsUsedWhereItLies) {
  const auto engine = Open({Model()});
  const GgufReader& gguf = engine->model().gguf();
  for (int64_t l = 0; l < 2; ++l) {
    const FfnSlice& slice = engine->weights().layers[static_cast<size_t>(l)].slices[0];
    const auto* down = gguf.FindTensor("blk." + std::to_string(l) + ".ffn_down_t.weight");
    EXPECT_EQ(slice.down_layout, DownLayout::kPerNeuron);
    EXPECT_EQ(slice.down.data, gguf.TensorData(*down));
    EXPECT_EQ(slice.down.rows, 96);
  }
}

TEST_P(PowerInferModelTest, MemoryPlanCountsWhatTheFileHolds) {
  EngineOptions options;
  options.model_path = Model();
  options.placement_path = Gpuidx();
  const OpenedModel opened(options);
  const MemoryPlan plan = opened.Plan();
  uint64_t ffn_bytes = 0;
  for (const GgufTensorInfo& tensor : opened.gguf().tensors()) {
    if (tensor.name.find(".ffn_") != std::string::npos &&
        tensor.name.find("norm") == std::string::npos) {
      ffn_bytes += tensor.n_bytes;
    }
  }
  EXPECT_EQ(plan.neuron_bytes(0) + plan.neuron_bytes(1), ffn_bytes);
  EXPECT_EQ(plan.layers[0].slices[0].n_neurons, 40);
  EXPECT_EQ(plan.layers[1].slices[0].n_neurons, 17);
}

TEST_P(PowerInferModelTest, PackedItGivesTheSameBits) {
  PackOptions options;
  options.placement_path = Gpuidx();
  options.n_threads = 2;
  const PackReport report = PackModel(Model(), dir_.file("packed.gguf"), options);
  EXPECT_FALSE(report.requantised_down);
  EXPECT_TRUE(report.changes.empty()) << "rows move as they are";
  const GgufReader packed(dir_.file("packed.gguf"));
  EXPECT_EQ(packed.container(), GgufContainer::kGguf);
  EXPECT_EQ(packed.GetString("llama.hidden_activation"), "relu");
  for (const char* sparse : {"dense", "exact"}) {
    EXPECT_EQ(Logits({packed.path(), sparse, Gpuidx()}), Logits({Model(), sparse, Gpuidx()}));
    EXPECT_LE(MaxDifference(Logits({packed.path(), sparse}), Reference()), Tolerance());
  }
}

TEST_P(PowerInferModelTest, QuantizedItStaysWhatItWas) {
  QuantizeOptions options;
  options.rule = {DType::kQ8_0, false};
  options.n_threads = 2;
  QuantizeModel(Model(), dir_.file("q8_0.gguf"), options);
  const GgufReader gguf(dir_.file("q8_0.gguf"));
  EXPECT_EQ(gguf.container(), GgufContainer::kGguf);
  EXPECT_EQ(gguf.FindTensor("blk.0.ffn_down_t.weight")->dtype, DType::kQ8_0);
  const ModelConfig config = ReadModelConfig(gguf, FindFamily(gguf));
  EXPECT_EQ(config.activation, Activation::kRelu);
  EXPECT_EQ(ReadPowerInferPredictor(gguf, config).size(), 2U);
  EXPECT_LE(MaxDifference(Logits({gguf.path(), "exact"}), Reference()), 0.3);
}

INSTANTIATE_TEST_SUITE_P(Types, PowerInferModelTest, testing::Values("f16", "q4_0"));

// The golden's own weights are rounded to F16 only, which makes 8.7e-3; the tolerance of the golden
// is added.
TEST(PowerInferGolden, F16LogitsAreTheGoldens) {
  const std::vector<float> golden = Expected()["golden_logits_last"];
  for (const char* sparse : {"dense", "exact"}) {
    EXPECT_LE(MaxDifference(Logits({PowerInferModel("f16"), sparse}), golden), 1.9e-2);
  }
}

TEST(PowerInferModelFile, AKeyForTheActivationWins) {
  const TempDir dir;
  WriteEdited(PowerInferModel("f16"), dir.file("m"), [](EditedFile& file) {
    file.keys["llama.hidden_activation"] = GgufValue::string("silu");
  });
  const GgufReader gguf(dir.file("m"));
  EXPECT_EQ(ReadModelConfig(gguf, FindFamily(gguf)).activation, Activation::kSilu);
}

TEST(PowerInferModelFile, WrongTensorsAreRefused) {
  const TempDir dir;
  const auto message = [&](const std::function<void(EditedFile&)>& edit) {
    WriteEdited(PowerInferModel("f16"), dir.file("m"), edit);
    return MessageOf([&] { Open({dir.file("m")}); });
  };
  const auto swap_dims = [](const std::string& name) {
    return [name](EditedFile& file) {
      std::swap(file.tensors[name].dims[0], file.tensors[name].dims[1]);
    };
  };
  EXPECT_EQ(message([](EditedFile&) {}), "");
  EXPECT_THAT(message(swap_dims("blk.1.ffn_down_t.weight")),
              AllOf(HasSubstr("blk.1.ffn_down_t.weight"), HasSubstr("96 rows of 64"),
                    HasSubstr("64 rows of 96")));
  // The stock name is asked for where it is missing.
  EXPECT_THAT(message([](EditedFile& file) { file.tensors.erase("blk.0.ffn_down_t.weight"); }),
              HasSubstr("blk.0.ffn_down.weight' is missing"));
  EXPECT_THAT(message([](EditedFile& file) { file.tensors.erase("blk.1.fc2.weight"); }),
              AllOf(HasSubstr("blk.1.fc2.weight' is missing"), HasSubstr("96 rows of 128")));
  EXPECT_THAT(message(swap_dims("blk.0.fc1.weight")), HasSubstr("blk.0.fc1.weight"));
}

TEST(PowerInferModelFile, APlacementIsNoModel) {
  EXPECT_THAT(MessageOf([] { Open({Gpuidx()}); }), HasSubstr("model family not supported"));
  const TempDir dir;
  EXPECT_THAT(MessageOf([&] { QuantizeModel(Gpuidx(), dir.file("q"), {}); }),
              HasSubstr("a placement, not a model"));
}

}  // namespace
}  // namespace thermocline
