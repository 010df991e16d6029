// A model whose layers differ in d_ff and heads. The reference is the same model with equal layers:
// neurons and heads that a layer lacks are there and add nothing, and a KV head that several query
// heads share is there several times.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <random>

#include "profiler/placement/place.h"
#include "runtime/convert/pack_model.h"
#include "runtime/engine/engine.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kDModel = 64;
constexpr int64_t kHeadDim = 16;

struct Shape {
  int64_t d_ff, n_heads, n_kv_heads;
};
// The groups have 2, 3 and 1 query heads, and the maxima come from different layers.
constexpr std::array<Shape, 3> kShapes = {{{64, 4, 2}, {160, 3, 1}, {32, 6, 6}}};
constexpr Shape kLargest = {160, 6, 6};

struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;

  Matrix(int64_t n_rows, int64_t n_cols)
      : rows(n_rows), cols(n_cols), values(static_cast<size_t>(n_rows * n_cols), 0.0F) {}
  float* at(int64_t r, int64_t c) { return values.data() + r * cols + c; }
  const float* at(int64_t r, int64_t c) const { return values.data() + r * cols + c; }
};

Matrix RandomMatrix(std::mt19937* random, int64_t rows, int64_t cols) {
  Matrix m(rows, cols);
  std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(cols)));
  for (float& value : m.values) value = normal(*random);
  return m;
}

Matrix Transposed(const Matrix& m) {
  Matrix out(m.cols, m.rows);
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) *out.at(c, r) = *m.at(r, c);
  }
  return out;
}

// Returns blocks of `block` rows: block i is that of m at source[i], or zeros where that is -1.
Matrix Blocks(const Matrix& m, int64_t block, const std::vector<int64_t>& source) {
  Matrix out(block * static_cast<int64_t>(source.size()), m.cols);
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] < 0) continue;
    std::copy_n(m.at(source[i] * block, 0), block * m.cols,
                out.at(static_cast<int64_t>(i) * block, 0));
  }
  return out;
}

// Returns a layer's named matrices as the file with its own shape has them.
std::map<std::string, Matrix> LayerMatrices(std::mt19937* random, const Shape& s) {
  const int64_t q = s.n_heads * kHeadDim;
  const int64_t kv = s.n_kv_heads * kHeadDim;
  std::map<std::string, Matrix> m;
  m.emplace("attn_q", RandomMatrix(random, q, kDModel));
  m.emplace("attn_k", RandomMatrix(random, kv, kDModel));
  m.emplace("attn_v", RandomMatrix(random, kv, kDModel));
  m.emplace("attn_output", RandomMatrix(random, kDModel, q));
  m.emplace("ffn_gate", RandomMatrix(random, s.d_ff, kDModel));
  m.emplace("ffn_up", RandomMatrix(random, s.d_ff, kDModel));
  m.emplace("ffn_down", RandomMatrix(random, kDModel, s.d_ff));
  return m;
}

// Widens the layer to the largest shape.
std::map<std::string, Matrix> Widened(const std::map<std::string, Matrix>& m, const Shape& s) {
  std::vector<int64_t> heads(kLargest.n_heads, -1);
  std::vector<int64_t> kv_heads(kLargest.n_kv_heads, -1);
  for (int64_t h = 0; h < s.n_heads; ++h) {
    heads[static_cast<size_t>(h)] = h;
    kv_heads[static_cast<size_t>(h)] = h / (s.n_heads / s.n_kv_heads);
  }
  std::vector<int64_t> neurons(kLargest.d_ff, -1);
  std::iota(neurons.begin(), neurons.begin() + s.d_ff, 0);
  std::map<std::string, Matrix> out;
  out.emplace("attn_q", Blocks(m.at("attn_q"), kHeadDim, heads));
  out.emplace("attn_k", Blocks(m.at("attn_k"), kHeadDim, kv_heads));
  out.emplace("attn_v", Blocks(m.at("attn_v"), kHeadDim, kv_heads));
  out.emplace("attn_output", Transposed(Blocks(Transposed(m.at("attn_output")), kHeadDim, heads)));
  out.emplace("ffn_gate", Blocks(m.at("ffn_gate"), 1, neurons));
  out.emplace("ffn_up", Blocks(m.at("ffn_up"), 1, neurons));
  out.emplace("ffn_down", Transposed(Blocks(Transposed(m.at("ffn_down")), 1, neurons)));
  return out;
}

GgufValue PerLayer(int64_t Shape::*member) {
  std::vector<int64_t> values;
  for (const Shape& shape : kShapes) values.push_back(shape.*member);
  return GgufValue::array(GgufType::kI32, std::move(values));
}

// Puts the golden's vocabulary and embeddings around layers of our own.
void WriteModel(const std::string& path, bool equal) {
  const auto edit = [&](EditedFile& file) {
    const EditedTensor norm = file.tensors.at("output_norm.weight");
    std::erase_if(file.tensors, [](const auto& entry) { return entry.first.starts_with("blk."); });
    file.keys["llama.block_count"] = GgufValue::u32(kShapes.size());
    file.keys["llama.attention.key_length"] = GgufValue::u32(kHeadDim);
    file.keys["llama.attention.value_length"] = GgufValue::u32(kHeadDim);
    const auto number = [](int64_t n) { return GgufValue::u32(static_cast<uint32_t>(n)); };
    file.keys["llama.feed_forward_length"] = equal ? number(kLargest.d_ff) : PerLayer(&Shape::d_ff);
    file.keys["llama.attention.head_count"] =
        equal ? number(kLargest.n_heads) : PerLayer(&Shape::n_heads);
    file.keys["llama.attention.head_count_kv"] =
        equal ? number(kLargest.n_kv_heads) : PerLayer(&Shape::n_kv_heads);
    std::mt19937 random(11);
    for (size_t l = 0; l < kShapes.size(); ++l) {
      const std::string prefix = "blk." + std::to_string(l) + ".";
      file.tensors[prefix + "attn_norm.weight"] = norm;
      file.tensors[prefix + "ffn_norm.weight"] = norm;
      const auto own = LayerMatrices(&random, kShapes[l]);
      for (const auto& [name, m] : equal ? Widened(own, kShapes[l]) : own) {
        const auto* bytes = reinterpret_cast<const std::byte*>(m.values.data());
        file.tensors[prefix + name + ".weight"] = {
            DType::kF32,
            {static_cast<uint64_t>(m.cols), static_cast<uint64_t>(m.rows)},
            {bytes, bytes + m.values.size() * sizeof(float)}};
      }
    }
  };
  WriteEdited(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf", path, edit,
              "GGUF");
}

class LayersThatDiffer : public testing::Test {
 protected:
  LayersThatDiffer() {
    WriteModel(path_, false);
    Placement placement;
    placement.model_fingerprint = GgufReader(path_).fingerprint();
    for (const Shape& shape : kShapes) {
      placement.layers.push_back(
          ShuffledPlacement("", 1, shape.d_ff, shape.d_ff == 32 ? 1.0 : 0.4).layers[0]);
    }
    WritePlacement(placement_, placement);
  }

  EngineOptions Options(const std::string& sparse, const std::string& placement = "") const {
    EngineOptions options;
    options.model_path = path_;
    options.sparse = sparse;
    options.placement_path = placement;
    options.n_threads = 3;
    options.context_tokens = 64;
    options.always_per_neuron = true;  // what makes dense and exact the same bits
    return options;
  }

  // Returns logits after a prompt that is long enough for attention by panels, in one batch, and
  // after tokens one by one.
  static std::vector<float> Logits(EngineOptions options, int64_t batch) {
    options.batch_tokens = batch;
    Engine engine(options);
    std::vector<int32_t> ids(40);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(4 + 7 * i % 280);
    const auto logits = engine.Feed(ids);
    return {logits.begin(), logits.end()};
  }

  static double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double most = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    return most;
  }

  TempDir dir_;
  std::string path_ = dir_.file("model.gguf");
  std::string placement_ = dir_.file("placement.gguf");
};

TEST_F(LayersThatDiffer, ConfigHoldsEachLayersOwnAndTheLargest) {
  const GgufReader gguf(path_);
  const ModelConfig c = ReadModelConfig(gguf, FindFamily(gguf));
  EXPECT_EQ(c.d_ff, kLargest.d_ff);
  EXPECT_EQ(c.n_heads, kLargest.n_heads);
  EXPECT_EQ(c.n_kv_heads, kLargest.n_kv_heads);
  EXPECT_EQ(c.n_neurons(), 64 + 160 + 32);
  EXPECT_EQ(c.max_group(), 3);
  for (size_t l = 0; l < kShapes.size(); ++l) {
    EXPECT_EQ(c.layers[l].ffn.d_ff, kShapes[l].d_ff);
    EXPECT_EQ(c.layers[l].attention.n_heads, kShapes[l].n_heads);
    EXPECT_EQ(c.layers[l].attention.n_kv_heads, kShapes[l].n_kv_heads);
  }
}

TEST_F(LayersThatDiffer, LogitsAreThoseOfEqualLayers) {
  EngineOptions equal = Options("dense");
  equal.model_path = dir_.file("equal.gguf");
  WriteModel(equal.model_path, true);
  const std::vector<float> expected = Logits(equal, 64);
  for (const int64_t batch : {64, 3, 1}) {
    SCOPED_TRACE(batch);
    const std::vector<float> dense = Logits(Options("dense"), batch);
    EXPECT_LE(MaxDifference(dense, expected), 1e-3);
    EXPECT_LE(MaxDifference(Logits(Options("exact"), batch), dense), batch == 64 ? 1e-3 : 0);
    EXPECT_LE(MaxDifference(Logits(Options("exact", placement_), batch), expected), 1e-3);
  }
}

TEST_F(LayersThatDiffer, PackedGivesTheSameLogits) {
  PackOptions pack;
  pack.placement_path = placement_;
  PackModel(path_, dir_.file("packed.gguf"), pack);
  EngineOptions options = Options("exact", placement_);
  const std::vector<float> expected = Logits(options, 1);
  options.model_path = dir_.file("packed.gguf");
  EXPECT_EQ(Logits(options, 1), expected);
}

// Where matrices are copied, devices hold all but the embedding table and the norms.
TEST_F(LayersThatDiffer, PlanIsWhatIsAllocated) {
  for (const std::string& placement : {std::string(), placement_}) {
    EngineOptions options = Options("exact", placement);
    options.copy_weights = true;
    const MemoryPlan plan = OpenedModel(options).Plan();
    const Engine engine(options);
    const GgufReader& gguf = engine.model().gguf();
    uint64_t mapped = gguf.FindTensor("token_embd.weight")->n_bytes;
    for (const GgufTensorInfo& tensor : gguf.tensors()) {
      if (tensor.name.ends_with("norm.weight")) mapped += tensor.n_bytes;
    }
    EXPECT_EQ(engine.allocated_bytes() + mapped, plan.total_bytes(0) + plan.total_bytes(1));
    for (size_t l = 0; l < kShapes.size(); ++l) {
      EXPECT_EQ(plan.layers[l].slices[0].n_neurons + plan.layers[l].slices[1].n_neurons,
                kShapes[l].d_ff);
      EXPECT_EQ(plan.layers[l].slices[0].bytes + plan.layers[l].slices[1].bytes,
                static_cast<uint64_t>(kShapes[l].d_ff * 3 * kDModel) * sizeof(float));
    }
  }
}

TEST_F(LayersThatDiffer, APlacementOfOtherLayersIsRefused) {
  Placement placement = ReadPlacement(placement_);
  std::swap(placement.layers[0], placement.layers[1]);
  WritePlacement(placement_, placement);
  EXPECT_THAT(MessageOf([&] { OpenedModel{Options("exact", placement_)}; }),
              AllOf(HasSubstr("3 layers of 64 neurons (in layer 0)"), HasSubstr("160")));
}

// What counts or places neurons takes one d_ff for all layers, and says so.
TEST_F(LayersThatDiffer, ProfilesRefuseThem) {
  const OpenedModel model(Options("exact"));
  EXPECT_THAT(MessageOf([&] { Place(model, NoActivity(model.config()), {}); }),
              AllOf(HasSubstr("different numbers of neurons"), HasSubstr("160"),
                    HasSubstr("llama.feed_forward_length")));
}

}  // namespace
}  // namespace thermocline
