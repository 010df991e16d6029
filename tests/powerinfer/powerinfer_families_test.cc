// Models of the other families that PowerInfer has (falcon, opt, bamboo), as its converters write
// them: made here of the families' goldens (tests/golden/families), converted in F32.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/convert/pack_model.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/engine/engine.h"
#include "runtime/import/import_model.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

EditedTensor FloatMatrix(const std::vector<float>& values, size_t rows, size_t cols) {
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  return {DType::kF32, {cols, rows}, {bytes, bytes + values.size() * sizeof(float)}};
}

EditedTensor TransposedTensor(const EditedTensor& tensor) {
  const size_t cols = tensor.dims[0];
  const size_t rows = tensor.dims[1];
  const auto* values = reinterpret_cast<const float*>(tensor.bytes.data());
  std::vector<float> turned(rows * cols);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) turned[c * rows + r] = values[r * cols + c];
  }
  return FloatMatrix(turned, cols, rows);
}

// A score per neuron of the predictor's input x, for every layer: that of neuron i is x[i] if i is
// below n_asked, else 0. fc1 keeps these of x as relu(x) and relu(-x).
void AddPredictor(size_t n_asked, float threshold, EditedFile* file) {
  for (size_t layer = 0;; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    const auto up = file->tensors.find(block + "ffn_up.weight");
    if (up == file->tensors.end()) break;
    const size_t d_model = up->second.dims[0];
    const size_t d_ff = up->second.dims[1];
    const size_t rank = 2 * std::max<size_t>(n_asked, 1);
    std::vector<float> in(rank * d_model);
    std::vector<float> out(d_ff * rank);
    for (size_t i = 0; i < n_asked; ++i) {
      in[2 * i * d_model + i] = 1;
      in[(2 * i + 1) * d_model + i] = -1;
      out[i * rank + 2 * i] = 1;
      out[i * rank + 2 * i + 1] = -1;
    }
    file->tensors[block + "fc1.weight"] = FloatMatrix(in, rank, d_model);
    file->tensors[block + "fc2.weight"] = FloatMatrix(out, d_ff, rank);
  }
  file->keys["powerinfer.sparse_threshold"] = GgufValue::f32(threshold);
}

constexpr float kNamesAll = -1e6F;

// What PowerInfer's converters write otherwise: down and its bias turned and renamed, no key for
// the activation, and of OPT a context that counts all rows of the table of positions, and neither
// its norms' epsilon nor the size of its vocabulary.
void MakePowerInfers(EditedFile& file) {
  const std::string architecture =
      std::get<std::string>(file.keys.at("general.architecture").value);
  std::map<std::string, EditedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors) {
    const size_t at = name.find("ffn_down");
    if (at == std::string::npos) {
      tensors[name] = tensor;
      continue;
    }
    const std::string turned = name.substr(0, at) + "ffn_down_t" + name.substr(at + 8);
    tensors[turned] = name.ends_with(".weight") ? TransposedTensor(tensor) : tensor;
  }
  file.tensors = tensors;
  file.keys.erase(architecture + ".hidden_activation");
  file.keys.erase(architecture + ".vocab_size");
  file.keys.erase(architecture + ".attention.sliding_window");
  if (architecture == "opt") {
    file.keys.erase("opt.attention.layer_norm_epsilon");
    file.keys.erase("opt.attention.head_count_kv");
    const auto rows = static_cast<uint32_t>(tensors.at("position_embd.weight").dims[1]);
    file.keys["opt.context_length"] = GgufValue::u32(rows);
  }
  AddPredictor(0, kNamesAll, &file);
}

class PowerInferFamilies : public testing::Test {
 protected:
  static std::string Family(const std::string& name) {
    return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/" + name;
  }
  static Json Golden(const std::string& family) {
    std::ifstream file(Family(family) + "/golden.json");
    return Json::parse(file)["prompts"][0];
  }
  std::string Import(const std::string& family) const {
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(Family(family), dir_.file("stock"), options);
    return dir_.file("stock");
  }
  std::string Write(const std::string& stock, const std::function<void(EditedFile&)>& edit) const {
    WriteEdited(stock, dir_.file("powerinfer"), [&](EditedFile& file) {
      MakePowerInfers(file);
      edit(file);
    });
    return dir_.file("powerinfer");
  }
  std::string Write(const std::string& stock) const {
    return Write(stock, [](EditedFile&) {});
  }

  static EngineOptions Options(const std::string& model, const std::string& sparse) {
    EngineOptions options;
    options.model_path = model;
    options.sparse = sparse;
    options.fast_tier = FastTier::kCpu;
    options.cache_type = DType::kF32;
    options.n_threads = 2;
    return options;
  }
  static std::vector<float> Logits(const EngineOptions& options, const std::vector<int32_t>& ids) {
    Engine engine(options);
    std::vector<float> logits;
    for (const int32_t id : ids) {
      const auto now = engine.Feed({&id, 1});
      logits.assign(now.begin(), now.end());
    }
    return logits;
  }
  static void ExpectNear(const std::vector<float>& found, const std::vector<float>& expected,
                         double tolerance) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], tolerance) << i;
  }

  TempDir dir_;
};

class PowerInferGoldens : public PowerInferFamilies,
                          public testing::WithParamInterface<const char*> {};

TEST_P(PowerInferGoldens, GivesTheGoldensLogitsInEveryMode) {
  const Json golden = Golden(GetParam());
  const auto ids = golden["ids"].get<std::vector<int32_t>>();
  const std::string model = Write(Import(GetParam()));
  for (const char* sparse : {"dense", "exact", "predicted"}) {
    SCOPED_TRACE(sparse);
    ExpectNear(Logits(Options(model, sparse), ids), golden["logits_last"], 1e-3);
  }
}

// What is made of it is under the other magic, and says in keys what PowerInfer's says.
TEST_P(PowerInferGoldens, PacksAndQuantisesToTheSameModel) {
  const auto ids = Golden(GetParam())["ids"].get<std::vector<int32_t>>();
  const std::string model = Write(Import(GetParam()));
  const auto expected = Logits(Options(model, "exact"), ids);
  QuantizeOptions quantize;
  quantize.rule = ParseTypeRule("F32").value();
  QuantizeModel(model, dir_.file("quantised"), quantize);
  ExpectNear(Logits(Options(dir_.file("quantised"), "exact"), ids), expected, 1e-4);

  EngineOptions options = Options(model, "exact");
  const OpenedModel opened(options);
  WritePlacement(dir_.file("placement"),
                 ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                   opened.config().d_ff, 0.4));
  PackOptions pack;
  pack.placement_path = dir_.file("placement");
  PackModel(model, dir_.file("packed"), pack);
  for (const std::string& path : {model, dir_.file("packed")}) {
    options.model_path = path;
    options.placement_path = dir_.file("placement");
    ExpectNear(Logits(options, ids), expected, 1e-4);
    EXPECT_EQ(OpenedModel(options).config().max_seq_len, opened.config().max_seq_len);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, PowerInferGoldens, testing::Values("falcon_relu", "opt"),
                         [](const auto& test) { return std::string(test.param); });

// ReluFalcon-40B's form: two norms, several KV heads. Its golden is of GELU: by the magic it is
// ReLU.
TEST_F(PowerInferFamilies, TheMagicSaysReluOfAFalconWithTwoNorms) {
  const auto ids = Golden("falcon40")["ids"].get<std::vector<int32_t>>();
  const std::string stock = Import("falcon40");
  WriteEdited(
      stock, dir_.file("relu"),
      [](EditedFile& file) { file.keys["falcon.hidden_activation"] = GgufValue::string("relu"); },
      "GGUF");
  const auto expected = Logits(Options(dir_.file("relu"), "dense"), ids);
  for (const char* sparse : {"dense", "exact", "predicted"}) {
    ExpectNear(Logits(Options(Write(stock), sparse), ids), expected, 1e-3);
  }
}

// Its golden has a window, of which PowerInfer's files say nothing.
TEST_F(PowerInferFamilies, BamboosLogitsAreThoseOfTheModelWithoutAWindow) {
  const auto ids = Golden("bamboo")["ids"].get<std::vector<int32_t>>();
  const std::string stock = Import("bamboo");
  WriteEdited(
      stock, dir_.file("whole"),
      [](EditedFile& file) { file.keys.erase("bamboo.attention.sliding_window"); }, "GGUF");
  const auto expected = Logits(Options(dir_.file("whole"), "dense"), ids);
  for (const char* sparse : {"dense", "exact", "predicted"}) {
    ExpectNear(Logits(Options(Write(stock), sparse), ids), expected, 1e-3);
  }
}

// Falcon's predictor reads the layer's input, which is what the layer before has left.
TEST_F(PowerInferFamilies, FalconsPredictorReadsTheLayersInput) {
  constexpr size_t kAsked = 8;
  constexpr float kThreshold = 0.05F;
  const std::string model =
      Write(Import("falcon40"), [](EditedFile& file) { AddPredictor(kAsked, kThreshold, &file); });
  for (const char* placement : {"", "placement"}) {
    EngineOptions options = Options(model, "predicted");
    if (*placement != '\0') {
      const OpenedModel opened(options);
      options.placement_path = dir_.file(placement);
      WritePlacement(options.placement_path,
                     ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                       opened.config().d_ff, 0));
    }
    Engine engine(options);
    engine.executor().set_keep_hidden(true);
    const auto d_model = static_cast<size_t>(engine.config().d_model);
    int64_t n_named = 0;
    for (int32_t id = 3; id < 23; ++id) {
      const FfnCounts before = engine.executor().counts();
      engine.Feed({&id, 1});
      for (size_t l = 1; l < before.layers.size(); ++l) {
        const auto x = engine.executor().hidden().subspan((l - 1) * d_model, kAsked);
        const auto named = std::ranges::count_if(x, [](float v) { return v >= kThreshold; });
        ASSERT_EQ(engine.executor().counts().layers[l].gates - before.layers[l].gates, named)
            << "layer " << l << ", token " << id;
        n_named += named;
      }
    }
    EXPECT_GT(n_named, 20);
  }
}

TEST_F(PowerInferFamilies, AContextWithoutAPositionIsRefused) {
  const std::string model = Write(
      Import("opt"), [](EditedFile& file) { file.keys["opt.context_length"] = GgufValue::u32(2); });
  EXPECT_THAT(MessageOf([&] { OpenedModel{Options(model, "exact")}; }), HasSubstr("more than 2"));
}

// A bias under the other form's name.
TEST_F(PowerInferFamilies, ABiasOfAnotherFormIsRefused) {
  const std::string model = Write(Import("opt"), [](EditedFile& file) {
    file.tensors["blk.0.ffn_down.bias"] = file.tensors.at("blk.0.ffn_down_t.bias");
  });
  EXPECT_THAT(MessageOf([&] { OpenedModel{Options(model, "exact")}; }),
              HasSubstr("ffn_down.bias does not go together"));
}

}  // namespace
}  // namespace thermocline
