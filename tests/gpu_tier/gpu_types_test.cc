// A model in every quantised type on the GPU and on the CPU, the embedding table and the head, too.
#include <cmath>
#include <random>

#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/weight_reference.h"

namespace thermocline {
namespace {

constexpr uint64_t kWidth = 256;  // of everything but keys and values
constexpr uint32_t kHeads = 4;
constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kHeadWidth = kWidth / kHeads;

// Any quantised type, also those that cannot be written: rows of random bits.
EditedTensor RandomTensor(DType dtype, uint64_t rows, std::mt19937* rng) {
  const int64_t row_bytes = RowBytes(dtype, kWidth);
  EditedTensor tensor{dtype, {kWidth, rows}, {}};
  tensor.bytes.resize(rows * static_cast<uint64_t>(row_bytes));
  for (uint64_t r = 0; r < rows; ++r) {
    testing::RandomRow(dtype, kWidth, rng,
                       tensor.bytes.data() + r * static_cast<uint64_t>(row_bytes));
  }
  return tensor;
}

// Norms that bring the sums of such weights back to about 1.
EditedTensor Norm() {
  const std::vector<float> values(kWidth, 0.06F);
  const auto* const bytes = reinterpret_cast<const std::byte*>(values.data());
  return {DType::kF32, {kWidth}, {bytes, bytes + kWidth * sizeof(float)}};
}

class GpuTypes : public GpuTier {
 protected:
  // A model of one layer around the golden's vocabulary.
  std::string ModelOf(DType dtype) {
    std::string path = dir_.file(std::string(DTypeName(dtype)) + ".gguf");
    const auto edit = [&](EditedFile& file) {
      const uint64_t vocabulary = file.tensors.at("token_embd.weight").dims[1];
      file.tensors.clear();
      std::mt19937 rng(7);
      for (const char* name : {"token_embd.weight", "output.weight"}) {
        file.tensors[name] = RandomTensor(dtype, vocabulary, &rng);
      }
      for (const char* name : {"attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
        file.tensors["blk.0." + std::string(name) + ".weight"] = RandomTensor(dtype, kWidth, &rng);
      }
      for (const char* name : {"blk.0.attn_k.weight", "blk.0.attn_v.weight"}) {
        file.tensors[name] = RandomTensor(dtype, uint64_t{kKvHeads} * kHeadWidth, &rng);
      }
      for (const char* name :
           {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"}) {
        file.tensors[name] = Norm();
      }
      file.keys["llama.embedding_length"] = GgufValue::u32(kWidth);
      file.keys["llama.feed_forward_length"] = GgufValue::u32(kWidth);
      file.keys["llama.block_count"] = GgufValue::u32(1);
      file.keys["llama.attention.head_count"] = GgufValue::u32(kHeads);
      file.keys["llama.attention.head_count_kv"] = GgufValue::u32(kKvHeads);
      file.keys["llama.rope.dimension_count"] = GgufValue::u32(kHeadWidth);
      // So that the down projection stays as the file has it: not every type can be written.
      file.keys["llama.hidden_activation"] = GgufValue::string("silu");
    };
    WriteEdited(Golden("gqa_relu"), path, edit, "GGUF");
    return path;
  }

  std::unique_ptr<Engine> OpenStock(const std::string& model, FastTier tier) {
    EngineOptions options = Options({.model = model, .sparse = "dense", .tier = tier});
    options.always_per_neuron = false;
    return std::make_unique<Engine>(options);
  }
};

double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - double{b[i]}, 2);
    squares += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / squares);
}

TEST_F(GpuTypes, EachIsMultipliedAsOnTheCpuAndTakesWhatWasPlanned) {
  for (const DType dtype : kWeightDTypes) {
    if (!testing::IsQuantised(dtype)) continue;
    SCOPED_TRACE(DTypeName(dtype));
    const std::string model = ModelOf(dtype);
    const auto gpu = OpenStock(model, FastTier::kGpu);
    const std::vector<float> logits = Logits(*gpu, 1);
    const std::vector<float> expected = Logits(*OpenStock(model, FastTier::kCpu), 1);
    ASSERT_EQ(logits.size(), expected.size());
    // The two round activations and queries apart: by 0.005 to 0.016, whatever the type.
    EXPECT_LE(RelativeDifference(logits, expected), 0.03);
    const MemoryPlan plan = gpu->model().Plan();
    const auto planned = static_cast<double>(plan.total_bytes(0) + plan.total_bytes(1));
    EXPECT_NEAR(static_cast<double>(gpu->allocated_bytes()), planned, 4096);
  }
}

}  // namespace
}  // namespace thermocline
