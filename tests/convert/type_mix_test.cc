// Mixes of types by name: which matrix gets which type.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtime/convert/quantize_model.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

struct Shape {
  int n_layers = 32;
  uint64_t n_cols = 256;
  uint64_t n_query_rows = 2;  // of attn_q; attn_v has 2
  bool tied = false;
};

// Writes a file with matrices of two rows, named as a model's.
void WriteMatrices(const std::string& path, const Shape& shape) {
  GgufWriter writer(path);
  struct Matrix {
    std::string name;
    uint64_t rows;
  };
  std::vector<Matrix> matrices = {{"token_embd.weight", 2}};
  if (!shape.tied) matrices.push_back({"output.weight", 2});
  for (int l = 0; l < shape.n_layers; ++l) {
    matrices.push_back({fmt::format("blk.{}.attn_q.weight", l), shape.n_query_rows});
    for (const char* name : {"attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
      matrices.push_back({fmt::format("blk.{}.{}.weight", l, name), 2});
    }
  }
  for (const Matrix& m : matrices)
    writer.DeclareTensor(m.name, DType::kF32, {shape.n_cols, m.rows});
  for (const Matrix& m : matrices) {
    const std::vector<float> values(shape.n_cols * m.rows, 0.5F);
    writer.WriteTensor(m.name, values.data(), values.size() * sizeof(float));
  }
  writer.Finish();
}

// What a mix makes of a model.
class Mixed {
 public:
  explicit Mixed(const std::string& name, const Shape& shape = {}, bool pure = false) {
    WriteMatrices(dir_.file("in"), shape);
    QuantizeOptions options;
    options.rule = ParseTypeRule(name).value();
    options.rule.pure = pure;
    changes_ = QuantizeModel(dir_.file("in"), dir_.file("out"), options);
    out_.emplace(dir_.file("out"));
  }

  DType TypeOf(const std::string& name) const { return out_->FindTensor(name + ".weight")->dtype; }
  // Returns the layers in which a matrix has a type.
  std::vector<int> LayersOf(const std::string& matrix, DType dtype) const {
    std::vector<int> layers;
    for (int l = 0; out_->FindTensor(fmt::format("blk.{}.attn_q.weight", l)) != nullptr; ++l) {
      if (TypeOf(fmt::format("blk.{}.{}", l, matrix)) == dtype) layers.push_back(l);
    }
    return layers;
  }
  uint64_t file_type() const { return out_->GetU64("general.file_type").value(); }
  const std::vector<TensorChange>& changes() const { return changes_; }

 private:
  TempDir dir_;
  std::vector<TensorChange> changes_;
  std::optional<GgufReader> out_;
};

std::vector<int> AllLayers(int n = 32) {
  std::vector<int> layers;
  for (int l = 0; l < n; ++l) layers.push_back(l);
  return layers;
}

// As in the files of 32 layers that people share.
TEST(TypeMixTest, MediumMixesKeepHalfOfValuesAndDownAtSixBits) {
  const std::vector<int> with_more = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31};
  for (const auto& [name, base, file_type] :
       {std::tuple{"Q4_K_M", DType::kQ4_K, 15U}, std::tuple{"q5_k_m", DType::kQ5_K, 17U}}) {
    const Mixed mixed(name);
    EXPECT_EQ(mixed.file_type(), file_type);
    EXPECT_EQ(mixed.LayersOf("attn_v", DType::kQ6_K), with_more);
    EXPECT_EQ(mixed.LayersOf("ffn_down", DType::kQ6_K), with_more);
    EXPECT_EQ(mixed.LayersOf("ffn_down", base).size(), 16U);
    for (const char* matrix : {"attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"}) {
      EXPECT_EQ(mixed.LayersOf(matrix, base), AllLayers()) << matrix;
    }
    EXPECT_EQ(mixed.TypeOf("token_embd"), base);
    EXPECT_EQ(mixed.TypeOf("output"), DType::kQ6_K);
  }
}

TEST(TypeMixTest, SmallMixes) {
  const Mixed four("Q4_K_S");
  EXPECT_EQ(four.file_type(), 14U);
  EXPECT_EQ(four.LayersOf("attn_v", DType::kQ5_K), AllLayers(4));
  EXPECT_EQ(four.LayersOf("ffn_down", DType::kQ5_K), AllLayers(4));
  EXPECT_EQ(four.LayersOf("attn_output", DType::kQ4_K), AllLayers());
  const Mixed five("Q5_K_S");
  EXPECT_EQ(five.file_type(), 16U);
  EXPECT_EQ(five.LayersOf("ffn_down", DType::kQ5_K), AllLayers());
  EXPECT_EQ(five.TypeOf("output"), DType::kQ6_K);
}

TEST(TypeMixTest, MixesOfThreeAndTwoBits) {
  const Mixed three("Q3_K_M");
  EXPECT_EQ(three.file_type(), 12U);
  EXPECT_EQ(three.LayersOf("attn_v", DType::kQ5_K), AllLayers(2));
  EXPECT_EQ(three.LayersOf("attn_v", DType::kQ4_K).size(), 30U);
  EXPECT_EQ(three.LayersOf("ffn_down", DType::kQ5_K), AllLayers(2));
  EXPECT_EQ(three.LayersOf("ffn_down", DType::kQ4_K).size(), 30U);
  EXPECT_EQ(three.LayersOf("attn_output", DType::kQ4_K), AllLayers());
  EXPECT_EQ(three.LayersOf("ffn_up", DType::kQ3_K), AllLayers());
  const Mixed two("Q2_K");
  EXPECT_EQ(two.file_type(), 10U);
  EXPECT_EQ(two.LayersOf("attn_v", DType::kQ3_K), AllLayers());
  EXPECT_EQ(two.LayersOf("ffn_down", DType::kQ3_K), AllLayers());
  EXPECT_EQ(two.LayersOf("attn_q", DType::kQ2_K), AllLayers());
  EXPECT_EQ(two.TypeOf("token_embd"), DType::kQ2_K);
  EXPECT_EQ(Mixed("Q2_K", {.n_query_rows = 8}).LayersOf("attn_v", DType::kQ4_K), AllLayers());
}

TEST(TypeMixTest, TiedTablePureMixAndPlainTypes) {
  EXPECT_EQ(Mixed("Q4_K_M", {.n_layers = 2, .tied = true}).TypeOf("token_embd"), DType::kQ6_K);
  const Mixed pure("Q4_K_M", {.n_layers = 2}, true);
  for (const TensorChange& change : pure.changes()) EXPECT_EQ(change.to, DType::kQ4_K);
  EXPECT_EQ(pure.file_type(), 14U);
  const Mixed six("Q6_K", {.n_layers = 2});
  for (const TensorChange& change : six.changes()) EXPECT_EQ(change.to, DType::kQ6_K);
  EXPECT_EQ(six.file_type(), 18U);
  const Mixed plain("IQ4_XS", {.n_layers = 2});
  EXPECT_EQ(plain.TypeOf("token_embd"), DType::kQ6_K);
  EXPECT_EQ(plain.TypeOf("blk.1.ffn_down"), DType::kIQ4_XS);
  EXPECT_EQ(plain.file_type(), 30U);
}

TEST(TypeMixTest, RowsOfNoWholeBlocksAreTold) {
  const Mixed mixed("Q4_K_M", {.n_layers = 1, .n_cols = 96});
  EXPECT_EQ(mixed.TypeOf("blk.0.attn_q"), DType::kQ5_0);
  EXPECT_EQ(mixed.TypeOf("output"), DType::kQ8_0);
  for (const TensorChange& change : mixed.changes()) {
    ASSERT_TRUE(change.unfit) << change.name;
    EXPECT_EQ(*change.unfit, change.to == DType::kQ8_0 ? DType::kQ6_K : DType::kQ4_K);
  }
}

TEST(TypeMixTest, AnEncodersLayersCountLikeOthersAndRelativeBiasesStay) {
  std::vector<GgufTensorInfo> infos;
  for (const char* name : {"enc.blk.0.attn_v.weight", "enc.blk.0.attn_rel_b.weight",
                           "dec.blk.1.ffn_down.weight", "dec.blk.1.cross_attn_v.weight"}) {
    infos.push_back({.name = name, .dtype = DType::kF32, .dims = {256, 256}});
  }
  const TypeRule rule = *ParseTypeRule("Q4_K_S");  // values get Q5_K in four layers, no down here
  const TypeChooser chooser("t5.gguf", infos, rule);
  EXPECT_EQ(chooser.TypeOf(infos[0]), DType::kQ5_K);
  EXPECT_EQ(chooser.TypeOf(infos[1]), DType::kF32);
  EXPECT_EQ(chooser.TypeOf(infos[2]), DType::kQ4_K);
  EXPECT_EQ(chooser.TypeOf(infos[3]), DType::kQ4_K);
}

TEST(TypeMixTest, TypesThatAreOnlyReadAreNoTargets) {
  for (const char* name : {"IQ3_S", "TQ1_0", "Q4_K_L", ""}) EXPECT_FALSE(ParseTypeRule(name));
  EXPECT_EQ(ParseTypeRule("mxfp4")->dtype, DType::kMXFP4);
  EXPECT_EQ(ParseTypeRule("mxfp4")->file_type(), 38U);
}

}  // namespace
}  // namespace thermocline
