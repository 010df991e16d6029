// What 4-bit files of PowerInfer's own quantiser hold: matrices in Q4_0, the output head in Q6_K.
// The files are made of the embedded model, whose d_model of 256 is one block of Q6_K.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/evaluate.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"

namespace thermocline {
namespace {

std::string DemoModel() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/classics-9m-relu-q8_0.gguf";
}

std::vector<float> Decode(const EditedTensor& tensor) {
  const auto cols = static_cast<int64_t>(tensor.dims[0]);
  const auto rows = static_cast<int64_t>(tensor.dims[1]);
  const int64_t bytes = RowBytes(tensor.dtype, cols);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    CpuKernels().dequantize_f32(tensor.dtype, tensor.bytes.data() + r * bytes, 0, cols,
                                values.data() + r * cols);
  }
  return values;
}

EditedTensor Encode(DType dtype, const std::vector<float>& values, uint64_t rows, uint64_t cols) {
  const auto n_cols = static_cast<int64_t>(cols);
  EditedTensor tensor{dtype, {cols, rows}, {}};
  tensor.bytes.resize(rows * static_cast<size_t>(RowBytes(dtype, n_cols)));
  QuantizeRow(dtype, values.data(), static_cast<int64_t>(values.size()), tensor.bytes.data());
  return tensor;
}

// Stores the down projection with a row per neuron, under PowerInfer's name.
void TransposeDown(EditedFile& file, const std::string& block) {
  const EditedTensor down = file.tensors.at(block + "ffn_down.weight");
  const std::vector<float> values = Decode(down);
  const uint64_t d_ff = down.dims[0];
  const uint64_t d_model = down.dims[1];
  std::vector<float> transposed(values.size());
  for (uint64_t r = 0; r < d_model; ++r) {
    for (uint64_t i = 0; i < d_ff; ++i) transposed[i * d_model + r] = values[r * d_ff + i];
  }
  file.tensors.erase(block + "ffn_down.weight");
  file.tensors[block + "ffn_down_t.weight"] = Encode(DType::kQ4_0, transposed, d_ff, d_model);
}

// Writes the embedding table in Q6_K as the head, stored as `head`: as it is, or widened to what a
// block decodes to.
void WritePowerInferLike(const std::string& path, DType head) {
  WriteEdited(DemoModel(), path, [head](EditedFile& file) {
    const EditedTensor embedding = file.tensors.at("token_embd.weight");
    const uint64_t rows = embedding.dims[1];
    const EditedTensor output = Encode(DType::kQ6_K, Decode(embedding), rows, embedding.dims[0]);
    for (int l = 0; l < 8; ++l) TransposeDown(file, "blk." + std::to_string(l) + ".");
    for (auto& [name, tensor] : file.tensors) {
      if (tensor.dtype != DType::kQ8_0) continue;
      tensor = Encode(DType::kQ4_0, Decode(tensor), tensor.dims[1], tensor.dims[0]);
    }
    file.tensors["output.weight"] =
        head == DType::kQ6_K ? output : Encode(head, Decode(output), rows, embedding.dims[0]);
    file.keys.erase("llama.hidden_activation");  // the magic says it
  });
}

struct Q6KSetup {
  std::string model;
  std::string sparse = "dense";
  std::string placement = {};
  int64_t batch_tokens = 512;
  bool all_logits = false;
};

std::unique_ptr<Engine> OpenQ6K(const Q6KSetup& setup) {
  EngineOptions options;
  options.model_path = setup.model;
  options.sparse = setup.sparse;
  options.placement_path = setup.placement;
  options.batch_tokens = setup.batch_tokens;
  options.all_logits = setup.all_logits;
  options.n_threads = 2;
  return std::make_unique<Engine>(options);
}

std::vector<int32_t> Prompt() {
  const auto engine = OpenQ6K({DemoModel()});
  return engine->tokenizer().Encode("The old house stood at the end of the lane, and the door was");
}

std::vector<float> Q6KLogits(const Q6KSetup& setup) {
  const auto engine = OpenQ6K(setup);
  const auto logits = engine->Feed(Prompt());
  return {logits.begin(), logits.end()};
}

// Returns the root mean square of the difference over that of what is expected.
double Off(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double difference = 0;
  double squares = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    difference += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    squares += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / squares);
}

// Activations in int8 are rounded to 1/127 of the largest of 32, which among normal ones is about
// twice their size: 2 / 127 / sqrt(12) = 0.5 %. Sums over many of them are off by as much.
constexpr double kActivationError = 0.005;
// How far a prompt in batches and the same prompt token by token may differ: attention and the FFN
// round differently, besides.
constexpr double kBatchError = 0.01;

TEST(PowerInferQ6KTest, TheHeadIsMultipliedAsItDecodes) {
  const TempDir dir;
  WritePowerInferLike(dir.file("q6_k"), DType::kQ6_K);
  WritePowerInferLike(dir.file("f32"), DType::kF32);
  EXPECT_EQ(GgufReader(dir.file("q6_k")).container(), GgufContainer::kPowerInfer);
  EXPECT_EQ(GgufReader(dir.file("q6_k")).FindTensor("output.weight")->dtype, DType::kQ6_K);
  for (const int64_t batch : {512, 1}) {
    const auto dense = Q6KLogits({dir.file("q6_k"), "dense", "", batch});
    EXPECT_LE(Off(dense, Q6KLogits({dir.file("f32"), "dense", "", batch})), kActivationError);
    const auto exact = Q6KLogits({dir.file("q6_k"), "auto", "", batch});
    EXPECT_LE(Off(exact, dense), batch == 1 ? 0 : kBatchError);
  }
}

TEST(PowerInferQ6KTest, EveryTokensLogitsInBatches) {
  const TempDir dir;
  WritePowerInferLike(dir.file("q6_k"), DType::kQ6_K);
  WritePowerInferLike(dir.file("f32"), DType::kF32);
  const auto nll = [](const std::string& model, int64_t batch) {
    const auto engine = OpenQ6K({model, "dense", "", batch, true});
    return EvaluatePerplexity(*engine, Prompt(), {}).nll_per_token;
  };
  const double expected = nll(dir.file("f32"), 512);
  for (const int64_t batch : {512, 1}) {
    EXPECT_NEAR(nll(dir.file("q6_k"), batch), expected, kActivationError * expected);
  }
}

TEST(Q6KModelTest, AllMatricesInQ6K) {
  const TempDir dir;
  QuantizeOptions options;
  options.rule = {DType::kQ6_K, false};
  options.n_threads = 2;
  QuantizeModel(DemoModel(), dir.file("q6_k"), options);
  const GgufReader gguf(dir.file("q6_k"));
  EXPECT_EQ(gguf.FindTensor("blk.3.ffn_down.weight")->dtype, DType::kQ6_K);
  EXPECT_EQ(gguf.FindTensor("token_embd.weight")->dtype, DType::kQ6_K);
  EXPECT_EQ(gguf.GetU64("general.file_type"), 18U);
  const ModelConfig config = ReadModelConfig(gguf, FindFamily(gguf));
  WritePlacement(dir.file("placement"),
                 ShuffledPlacement(gguf.fingerprint(), config.n_layers, config.d_ff, 0.4));
  // The weights are off by 1.7 %, which the layers' sums average away in part (0.8 % is left).
  const auto original = Q6KLogits({DemoModel(), "dense"});
  const auto dense = Q6KLogits({gguf.path(), "dense"});
  EXPECT_LE(Off(dense, original), 0.02);
  for (const std::string& placement : {std::string(), dir.file("placement")}) {
    for (const int64_t batch : {512, 3, 1}) {
      SCOPED_TRACE(placement + ", batch " + std::to_string(batch));
      EXPECT_LE(Off(Q6KLogits({gguf.path(), "dense", placement, batch}), dense), kBatchError);
      EXPECT_LE(Off(Q6KLogits({gguf.path(), "exact", placement, batch}), dense), kBatchError);
    }
  }
}

}  // namespace
}  // namespace thermocline
