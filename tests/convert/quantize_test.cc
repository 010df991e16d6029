// Models in other types: which tensor gets which type, what is reported, and that nothing else
// changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cpu_kernels/kernels.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/core/error.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

std::vector<float> Values(const GgufReader& gguf, const std::string& name) {
  const GgufTensorInfo* tensor = gguf.FindTensor(name);
  EXPECT_NE(tensor, nullptr) << name;
  const auto cols = static_cast<int64_t>(tensor->cols());
  const auto rows = static_cast<int64_t>(tensor->rows());
  const TensorView view = DenseView(gguf.TensorData(*tensor), tensor->dtype, rows, cols);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    CpuKernels().dequantize_f32(view.dtype, view.row(r), 0, cols, values.data() + r * cols);
  }
  return values;
}

QuantizeOptions Options(DType dtype, int n_threads = 2) {
  return {.rule = {.dtype = dtype, .pure = false}, .n_threads = n_threads, .progress = {}};
}

class QuantizeTest : public testing::TestWithParam<DType> {};

TEST_P(QuantizeTest, ReportsTheErrorThatIsThere) {
  TempDir dir;
  const std::string out = dir.file("out.gguf");
  const auto changes = QuantizeModel(GoldenModel("gqa_relu"), out, Options(GetParam()));
  const GgufReader before(GoldenModel("gqa_relu"));
  const GgufReader after(out);
  ASSERT_EQ(changes.size(), before.tensors().size());
  for (const TensorChange& change : changes) {
    const std::vector<float> a = Values(before, change.name);
    const std::vector<float> b = Values(after, change.name);
    EXPECT_EQ(after.FindTensor(change.name)->dtype, change.to);
    EXPECT_EQ(after.FindTensor(change.name)->n_bytes, change.to_bytes);
    double error = 0;
    double weights = 0;
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double difference = static_cast<double>(b[i]) - a[i];
      error += difference * difference;
      weights += static_cast<double>(a[i]) * a[i];
      worst = std::max(worst, std::abs(difference));
    }
    EXPECT_NEAR(change.relative_rms_error, std::sqrt(error / weights), 1e-12) << change.name;
    EXPECT_DOUBLE_EQ(change.max_abs_error, worst) << change.name;
    const double most = change.to == DType::kS2_0 ? 0.4 : change.to == DType::kS3_0 ? 0.2 : 0.12;
    EXPECT_LT(change.relative_rms_error, most) << change.name;
  }
  EXPECT_EQ(after.GetU64("general.file_type"), GetWeightTypeInfo(GetParam()).file_type);
}

TEST_P(QuantizeTest, DoesNotDependOnThreads) {
  TempDir dir;
  QuantizeModel(GoldenModel("gqa_relu"), dir.file("one.gguf"), Options(GetParam(), 1));
  QuantizeModel(GoldenModel("gqa_relu"), dir.file("three.gguf"), Options(GetParam(), 3));
  EXPECT_EQ(ReadWholeFile(dir.file("one.gguf")), ReadWholeFile(dir.file("three.gguf")));
}

// Those that can be written.
std::vector<DType> Targets() {
  std::vector<DType> types;
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (info.written) types.push_back(info.stored.dtype);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizeTest, testing::ValuesIn(Targets()),
                         [](const auto& test) { return std::string(DTypeName(test.param)); });

TEST(QuantizeRulesTest, SameTypeChangesNoWeight) {
  TempDir dir;
  const auto changes = QuantizeModel(GoldenModel("gqa_relu"), dir.file("o"), Options(DType::kF32));
  for (const TensorChange& change : changes) EXPECT_EQ(change.max_abs_error, 0);
}

TEST(QuantizeRulesTest, KeepsVectorsAndTheEmbeddingOfModelsOfFewBits) {
  for (const DType dtype : Targets()) {
    if (GetDTypeInfo(dtype).block_elems > 64) continue;  // rows of this model hold no such block
    TempDir dir;
    QuantizeOptions options = Options(dtype);
    QuantizeModel(GoldenModel("gqa_relu"), dir.file("kept"), options);
    options.rule.pure = true;
    QuantizeModel(GoldenModel("gqa_relu"), dir.file("pure"), options);
    const GgufReader kept(dir.file("kept"));
    const GgufReader pure(dir.file("pure"));
    const auto type = [](const GgufReader& gguf, const char* name) {
      return gguf.FindTensor(name)->dtype;
    };
    const bool few_bits = GetDTypeInfo(dtype).block_elems > 1;
    for (const char* name : {"token_embd.weight", "output.weight"}) {
      EXPECT_EQ(type(kept, name), few_bits ? DType::kQ8_0 : dtype);
      EXPECT_EQ(type(pure, name), dtype);
    }
    EXPECT_EQ(type(kept, "blk.0.attn_q.weight"), dtype);
    EXPECT_EQ(type(pure, "blk.1.attn_norm.weight"), DType::kF32);
    EXPECT_EQ(kept.GetU64("general.quantization_version"), 2U);
    const GgufReader source(GoldenModel("gqa_relu"));
    EXPECT_EQ(*kept.GetStrings("tokenizer.ggml.tokens"),
              *source.GetStrings("tokenizer.ggml.tokens"));
  }
}

// Writes a file with one tensor of 3 rows.
void WriteOneTensor(const std::string& path, const std::string& name, uint64_t n_cols,
                    float last_value) {
  std::vector<float> values(3 * n_cols, 0.5F);
  values.back() = last_value;
  GgufWriter writer(path);
  writer.DeclareTensor(name, DType::kF32, {n_cols, 3});
  writer.WriteTensor(name, values.data(), values.size() * sizeof(float));
  writer.Finish();
}

TEST(QuantizeRulesTest, RowsThatAreNoWholeBlocksBecomeF16) {
  TempDir dir;
  WriteOneTensor(dir.file("in"), "blk.0.ffn_down.weight", 44, 1);
  QuantizeModel(dir.file("in"), dir.file("out"), Options(DType::kQ8_0));
  EXPECT_EQ(GgufReader(dir.file("out")).tensors()[0].dtype, DType::kF16);
  // Both halves of a packed row must be whole blocks: 96 = 2 * 48 is not enough.
  WriteOneTensor(dir.file("packed"), "blk.0.ffn_up_down.weight", 96, 1);
  QuantizeModel(dir.file("packed"), dir.file("out"), Options(DType::kQ8_0));
  EXPECT_EQ(GgufReader(dir.file("out")).tensors()[0].dtype, DType::kF16);
}

TEST(QuantizeRulesTest, WeightsThatAreNotFiniteAreAnError) {
  TempDir dir;
  const auto message = [&](float value, DType dtype) {
    WriteOneTensor(dir.file("in"), "a.weight", 32, value);
    try {
      QuantizeModel(dir.file("in"), dir.file("out"), Options(dtype));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(std::numeric_limits<float>::quiet_NaN(), DType::kQ8_0),
              testing::HasSubstr("tensor a.weight, row 2: expected finite weights, found nan"));
  EXPECT_THAT(message(1e6F, DType::kF16), testing::HasSubstr("1000000 does not fit into F16"));
  EXPECT_EQ(message(1e6F, DType::kBF16), "no error");
  EXPECT_EQ(dir.n_entries(), 2U) << "in and the last out";
}

}  // namespace
}  // namespace thermocline
