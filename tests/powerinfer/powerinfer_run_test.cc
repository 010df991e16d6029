// PowerInfer's models in mode predicted, with the predictor they bring. The committed files' is
// larger than the gates it stands for, so that asking never pays; here both are made of low rank.
#include <gtest/gtest.h>

#include <random>

#include "runtime/convert/pack_model.h"
#include "runtime/engine/engine.h"
#include "tests/powerinfer/powerinfer_files.h"

namespace thermocline {
namespace {

constexpr size_t kModel = 64;    // d_model
constexpr size_t kNeurons = 96;  // d_ff
constexpr size_t kHalf = 16;     // rank of the gates; the predictor's is twice that

EditedTensor Matrix(const std::vector<float>& values, size_t rows, size_t cols) {
  EditedTensor tensor{DType::kF16, {cols, rows}, std::vector<std::byte>(values.size() * 2)};
  const auto n = static_cast<int64_t>(values.size());
  CpuKernels().f32_to_f16(values.data(), n, reinterpret_cast<uint16_t*>(tensor.bytes.data()));
  return tensor;
}

// gate = A B, and a predictor whose score is A (relu(B x) - relu(-B x)): the sign of the gate
// whatever the length that the norm divides x by. Some neurons of the second layer score 0 always.
void MakeLowRank(EditedFile& file, float threshold) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const std::string block : {"blk.0.", "blk.1."}) {
    const auto* norm =
        reinterpret_cast<const float*>(file.tensors.at(block + "ffn_norm.weight").bytes.data());
    std::vector<float> a(kNeurons * kHalf);
    std::vector<float> b(kHalf * kModel);
    for (float& value : a) value = 0.25F * normal(random);
    for (float& value : b) value = 0.25F * normal(random);
    std::vector<float> gate(kNeurons * kModel, 0.0F);
    std::vector<float> in(2 * kHalf * kModel);
    std::vector<float> out(kNeurons * 2 * kHalf);
    for (size_t k = 0; k < kHalf; ++k) {
      for (size_t c = 0; c < kModel; ++c) {
        in[k * kModel + c] = b[k * kModel + c] * norm[c];
        in[(k + kHalf) * kModel + c] = -in[k * kModel + c];
        for (size_t i = 0; i < kNeurons; ++i) {
          gate[i * kModel + c] += a[i * kHalf + k] * b[k * kModel + c];
        }
      }
      for (size_t i = 0; i < kNeurons; ++i) {
        out[i * 2 * kHalf + k] = a[i * kHalf + k];
        out[i * 2 * kHalf + k + kHalf] = -a[i * kHalf + k];
      }
    }
    file.tensors[block + "ffn_gate.weight"] = Matrix(gate, kNeurons, kModel);
    file.tensors[block + "fc1.weight"] = Matrix(in, 2 * kHalf, kModel);
    file.tensors[block + "fc2.weight"] = Matrix(out, kNeurons, 2 * kHalf);
  }
  file.keys["powerinfer.sparse_threshold"] = GgufValue::f32(threshold);
}

struct Counted {
  FfnCount sum;
  std::vector<float> logits;
};

Counted RunModel(const std::string& model, const std::string& sparse,
                 const std::string& placement) {
  EngineOptions options;
  options.model_path = model;
  options.sparse = sparse;
  options.placement_path = placement;
  options.n_threads = 2;
  Engine engine(options);
  engine.executor().set_audit(true);
  Counted counted;
  for (int32_t id = 3; id < 43; ++id) {
    const auto logits = engine.Feed({&id, 1});
    counted.logits.assign(logits.begin(), logits.end());
  }
  counted.sum = engine.executor().counts().Sum();
  return counted;
}

TEST(PowerInferRun, ItsPredictorNamesTheNeuronsWhereverTheyLie) {
  const TempDir dir;
  const std::string gpuidx = PowerInferFile("reglu.generated.gpuidx");
  WriteEdited(PowerInferModel("f16"), dir.file("model"),
              [](EditedFile& file) { MakeLowRank(file, 0); });
  PackOptions pack;
  pack.placement_path = gpuidx;
  PackModel(dir.file("model"), dir.file("packed"), pack);
  for (const char* model : {"model", "packed"}) {
    for (const std::string& placement : {std::string(), gpuidx}) {
      SCOPED_TRACE(std::string(model) + " " + placement);
      const Counted exact = RunModel(dir.file(model), "exact", placement);
      const Counted predicted = RunModel(dir.file(model), "predicted", placement);
      EXPECT_GT(predicted.sum.hits, 0);
      EXPECT_GT(predicted.sum.Recall(), 0.999);  // but for gates next to 0
      EXPECT_LT(predicted.sum.gates, exact.sum.gates * 9 / 10);
      for (size_t i = 0; i < exact.logits.size(); ++i) {
        ASSERT_NEAR(predicted.logits[i], exact.logits[i], 1e-2) << i;
      }
    }
  }
}

TEST(PowerInferRun, ItsThresholdCutsTheScore) {
  const TempDir dir;
  int64_t last = 40 * 2 * 96;
  for (const float threshold : {-0.1F, 0.0F, 0.3F, 1e6F}) {
    WriteEdited(PowerInferModel("f16"), dir.file("model"),
                [&](EditedFile& file) { MakeLowRank(file, threshold); });
    const int64_t gates = RunModel(dir.file("model"), "predicted", "").sum.gates;
    EXPECT_LT(gates, last) << threshold;
    last = gates;
  }
  EXPECT_EQ(last, 0);
}

}  // namespace
}  // namespace thermocline
