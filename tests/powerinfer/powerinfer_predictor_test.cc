// The predictor inside a PowerInfer model, as the runtime reads it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/convert/pack_model.h"
#include "runtime/model/families.h"
#include "runtime/placement/powerinfer_file.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<LayerPredictor> Read(const GgufReader& gguf) {
  return ReadPowerInferPredictor(gguf, ReadModelConfig(gguf, FindFamily(gguf)));
}

std::vector<float> Row(const TensorView& view, int64_t r) {
  std::vector<float> row(static_cast<size_t>(view.cols));
  CpuKernels().dequantize_f32(view.dtype, view.row(r), 0, view.cols, row.data());
  return row;
}

double Dot(const std::vector<float>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST(PowerInferPredictor, ShapesTypesAndThreshold) {
  for (const auto& [type, dtype, threshold] :
       {std::tuple{"f16", DType::kF16, -0.125F}, std::tuple{"q4_0", DType::kQ4_0, -0.5F}}) {
    SCOPED_TRACE(type);
    const GgufReader gguf(PowerInferModel(type));
    EXPECT_TRUE(HasPowerInferPredictor(gguf));
    const auto layers = Read(gguf);
    ASSERT_EQ(layers.size(), 2U);
    for (const LayerPredictor& layer : layers) {
      EXPECT_EQ(layer.in_proj.rows, 128);
      EXPECT_EQ(layer.in_proj.cols, 64);
      EXPECT_EQ(layer.out_proj.rows, 96);
      EXPECT_EQ(layer.out_proj.cols, 128);
      EXPECT_EQ(layer.in_proj.dtype, dtype);
      EXPECT_EQ(layer.out_proj.dtype, dtype);
      EXPECT_TRUE(layer.relu);
      EXPECT_EQ(layer.input, PredictorInput::kResidual);
      ASSERT_EQ(layer.points.size(), 1U);
      EXPECT_EQ(layer.points[0].predictor_threshold, threshold);
      EXPECT_EQ(layer.points[0].bias, nullptr);
    }
  }
}

// make_files.py builds fc1 and fc2 so that the score is the gate's input times the length that the
// norm divides by: its sign is that of the gate, whatever the residual.
TEST(PowerInferPredictor, ScoresHaveTheSignOfTheGates) {
  const GgufReader gguf(PowerInferModel("f16"));
  const auto layers = Read(gguf);
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<double> x(64);
  for (double& value : x) value = normal(random);
  for (size_t l = 0; l < layers.size(); ++l) {
    const std::string block = "blk." + std::to_string(l) + ".";
    const auto norm = Row(gguf.RequireMatrix(block + "ffn_norm.weight", 1, 64), 0);
    std::vector<double> normed(x);
    for (size_t i = 0; i < normed.size(); ++i) normed[i] *= norm[i];
    std::vector<double> hidden;
    for (int64_t r = 0; r < layers[l].in_proj.rows; ++r) {
      hidden.push_back(std::max(0.0, Dot(Row(layers[l].in_proj, r), x)));
    }
    const TensorView gate = gguf.RequireMatrix(block + "ffn_gate.weight", 96, 64);
    for (int64_t i = 0; i < 96; ++i) {
      EXPECT_NEAR(Dot(Row(layers[l].out_proj, i), hidden), Dot(Row(gate, i), normed), 2e-2);
    }
  }
}

TEST(PowerInferPredictor, APackedModelsRowsMoveWithItsNeurons) {
  const TempDir dir;
  PackOptions options;
  options.placement_path = PowerInferFile("reglu.generated.gpuidx");
  PackModel(PowerInferModel("f16"), dir.file("packed"), options);
  const GgufReader source(PowerInferModel("f16"));
  const GgufReader packed(dir.file("packed"));
  const auto before = Read(source);
  const auto after = Read(packed);
  const Placement placement = ReadPlacement(options.placement_path);
  for (size_t l = 0; l < after.size(); ++l) {
    for (int64_t i = 0; i < 96; ++i) {
      const int32_t id = placement.layers[l].neuron_order[static_cast<size_t>(i)];
      EXPECT_EQ(Row(after[l].out_proj, i), Row(before[l].out_proj, id));
    }
    EXPECT_EQ(Row(after[l].in_proj, 5), Row(before[l].in_proj, 5));
    EXPECT_EQ(after[l].points[0].predictor_threshold, before[l].points[0].predictor_threshold);
  }
}

class BrokenPredictor : public testing::Test {
 protected:
  std::string Message(const std::function<void(EditedFile&)>& edit) {
    WriteEdited(PowerInferModel("f16"), dir_.file("m"), edit);
    const GgufReader gguf(dir_.file("m"));
    return MessageOf([&] { Read(gguf); });
  }
  TempDir dir_;
};

TEST_F(BrokenPredictor, SaysWhatIsMissing) {
  const auto without = [&](const std::string& name) {
    return Message([&](EditedFile& file) { file.tensors.erase(name); });
  };
  EXPECT_THAT(without("blk.0.fc1.weight"), HasSubstr("blk.0.fc1.weight is missing"));
  EXPECT_THAT(without("blk.1.fc1.weight"), HasSubstr("blk.1.fc1.weight is missing"));
  EXPECT_THAT(without("blk.1.fc2.weight"), HasSubstr("'blk.1.fc2.weight' is missing"));
  const std::string none = Message([](EditedFile& file) {
    for (const char* name : {"blk.0.fc1.weight", "blk.0.fc2.weight"}) file.tensors.erase(name);
  });
  EXPECT_THAT(none, HasSubstr("blk.0.fc1.weight is missing"));
}

TEST_F(BrokenPredictor, SaysWhatDoesNotFit) {
  const auto reshaped = [&](const std::string& name, std::vector<uint64_t> dims) {
    return Message([&](EditedFile& file) { file.tensors[name].dims = std::move(dims); });
  };
  EXPECT_THAT(reshaped("blk.0.fc1.weight", {128, 64}),
              AllOf(HasSubstr("blk.0.fc1.weight"), HasSubstr("found 64 rows of 128")));
  EXPECT_THAT(reshaped("blk.0.fc2.weight", {96, 128}),
              AllOf(HasSubstr("expected 96 rows of 128"), HasSubstr("found 128 rows of 96")));
  EXPECT_THAT(reshaped("blk.1.fc2.weight", {64, 192}), HasSubstr("found 192 rows of 64"));
  const std::string typed = Message([](EditedFile& file) {
    EditedTensor& tensor = file.tensors["blk.1.fc1.weight"];
    tensor.dtype = DType::kI16;
  });
  EXPECT_THAT(typed, AllOf(HasSubstr("blk.1.fc1.weight"), HasSubstr("found I16")));
  const std::string biased = Message([](EditedFile& file) {
    file.tensors["blk.0.fc2.bias"] = file.tensors["output_norm.weight"];
  });
  EXPECT_THAT(biased, AllOf(HasSubstr("has a bias"), HasSubstr("blk.0.fc2.bias")));
}

TEST_F(BrokenPredictor, ThresholdIsANumberAndMayBeAbsent) {
  const std::string key = "powerinfer.sparse_threshold";
  EXPECT_THAT(Message([&](EditedFile& file) { file.keys[key] = GgufValue::string("0.1"); }),
              HasSubstr(key));
  EXPECT_THAT(Message([&](EditedFile& file) { file.keys[key] = GgufValue::f32(NAN); }),
              HasSubstr(key));
  WriteEdited(PowerInferModel("f16"), dir_.file("m"),
              [&](EditedFile& file) { file.keys.erase(key); });
  EXPECT_EQ(Read(GgufReader(dir_.file("m")))[0].points[0].predictor_threshold, 0.0F);
}

}  // namespace
}  // namespace thermocline
