// Reading a model's config: what a file may say, and what is refused. Files are made by copying a
// golden model with some keys or tensors changed.
#include "runtime/model/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct Changes {
  std::map<std::string, GgufValue> set = {};
  std::vector<std::string> drop_keys = {};
  std::vector<std::string> drop_tensors = {};
  // Called with every tensor's name and bytes.
  std::function<void(const GgufTensorInfo&, std::vector<std::byte>&)> edit = {};
};

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class Families : public testing::Test {
 protected:
  std::string Changed(const std::string& golden, const Changes& changes) {
    const GgufReader in(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + golden + ".gguf");
    std::string path = directory_.file("changed.gguf");
    GgufWriter out(path);
    for (const std::string& key : in.keys()) {
      if (!Contains(changes.drop_keys, key)) out.Set(key, *in.Find(key));
    }
    for (const auto& [key, value] : changes.set) out.Set(key, value);
    for (const GgufTensorInfo& tensor : in.tensors()) {
      if (Contains(changes.drop_tensors, tensor.name)) continue;
      out.DeclareTensor(tensor.name, tensor.dtype, tensor.dims);
    }
    for (const GgufTensorInfo& tensor : in.tensors()) {
      if (Contains(changes.drop_tensors, tensor.name)) continue;
      const std::byte* data = in.TensorData(tensor);
      std::vector<std::byte> bytes(data, data + tensor.n_bytes);
      if (changes.edit) changes.edit(tensor, bytes);
      out.WriteTensor(tensor.name, bytes.data(), bytes.size());
    }
    out.Finish();
    return path;
  }

  static ModelConfig Read(const std::string& path) {
    const GgufReader gguf(path);
    return ReadModelConfig(gguf, FindFamily(gguf));
  }

  static std::vector<float> Logits(const std::string& path) {
    EngineOptions options;
    options.model_path = path;
    options.n_threads = 1;
    Engine engine(options);
    const auto logits = engine.Feed(std::vector<int32_t>{1, 30, 40, 50, 60, 70, 80});
    return {logits.begin(), logits.end()};
  }

  void ExpectRefused(const Changes& changes, const std::string& key, const std::string& expected) {
    const std::string path = Changed("gqa_relu", changes);
    EXPECT_THAT([&] { Read(path); },
                ThrowsMessage<Error>(AllOf(HasSubstr(path), HasSubstr(key), HasSubstr(expected))));
  }

  TempDir directory_;
};

TEST_F(Families, ReadsTheGoldenConfig) {
  const ModelConfig c = Read(Changed("gqa_relu", {}));
  EXPECT_EQ(c.n_layers, 2);
  EXPECT_EQ(c.d_model, 64);
  EXPECT_EQ(c.d_ff, 96);
  EXPECT_EQ(c.n_heads, 4);
  EXPECT_EQ(c.n_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.vocab_size, 288);
  EXPECT_EQ(c.activation, Activation::kRelu);
  EXPECT_FALSE(c.tied_output);
  EXPECT_EQ(c.rope.pairing, RopePairing::kAdjacent);
}

TEST_F(Families, ActivationNames) {
  const std::map<std::string, Activation> names = {{"silu", Activation::kSilu},
                                                   {"swiglu", Activation::kSilu},
                                                   {"relu", Activation::kRelu},
                                                   {"reglu", Activation::kRelu},
                                                   {"relu_sqr", Activation::kReluSqr}};
  for (const auto& [name, activation] : names) {
    const std::string key = "llama.hidden_activation";
    EXPECT_EQ(Read(Changed("gqa_relu", {.set = {{key, GgufValue::string(name)}}})).activation,
              activation);
  }
  EXPECT_EQ(Read(Changed("gqa_relu", {.drop_keys = {"llama.hidden_activation"}})).activation,
            Activation::kSilu);
}

TEST_F(Families, RefusesWhatDoesNotGoTogether) {
  const auto u32 = [](uint32_t v) { return GgufValue::u32(v); };
  const auto text = [](const char* v) { return GgufValue::string(v); };
  ExpectRefused({.set = {{"general.architecture", text("mamba")}}}, "family", "llama");
  ExpectRefused({.drop_keys = {"llama.block_count"}}, "llama.block_count", "");
  ExpectRefused({.set = {{"llama.block_count", u32(0)}}}, "llama.block_count", "1");
  ExpectRefused({.set = {{"llama.embedding_length", text("64")}}}, "llama.embedding_length", "");
  ExpectRefused({.set = {{"llama.attention.head_count_kv", u32(3)}}}, "head_count_kv",
                "a divisor of 4 heads");
  ExpectRefused({.set = {{"llama.attention.head_count", u32(5)}}}, "head_count", "a divisor of");
  ExpectRefused({.set = {{"llama.attention.value_length", u32(8)}}}, "value_length", "16");
  ExpectRefused({.set = {{"llama.hidden_activation", text("gelu")}}}, "hidden_activation", "silu");
  ExpectRefused({.set = {{"llama.rope.dimension_count", u32(7)}}}, "dimension_count", "even");
  ExpectRefused({.set = {{"llama.rope.dimension_count", u32(64)}}}, "dimension_count", "16");
  ExpectRefused({.set = {{"llama.rope.scaling.type", text("longrope")}}}, "rope.scaling.type",
                "none, linear or yarn");
  ExpectRefused({.set = {{"llama.rope.freq_base", GgufValue::f32(-1)}}}, "freq_base", "positive");
  ExpectRefused({.set = {{"thermocline.rope.pairing", text("x")}}}, "rope.pairing", "adjacent");
}

TEST_F(Families, RefusesMissingAndMisshapenTensors) {
  const auto refused = [&](const Changes& changes, const std::string& part) {
    EngineOptions options;
    options.model_path = Changed("gqa_relu", changes);
    EXPECT_THAT([&] { Engine engine(options); }, ThrowsMessage<Error>(HasSubstr(part)));
  };
  refused({.drop_tensors = {"blk.1.ffn_up.weight"}}, "blk.1.ffn_up.weight");
  refused({.drop_tensors = {"output_norm.weight"}}, "output_norm.weight");
  refused({.set = {{"llama.feed_forward_length", GgufValue::u32(64)}}}, "ffn_gate");
  refused({.set = {{"llama.block_count", GgufValue::u32(3)}}}, "blk.2.");
  refused({.set = {{"tokenizer.ggml.model", GgufValue::string("gpt2")}}}, "gpt2");
}

TEST_F(Families, HalvesPairingWithRowsInThatOrderGivesTheSameLogits) {
  // From adjacent pairs (2i, 2i+1) to halves (i, i + 8): the rows of each head of q and k move.
  constexpr size_t kHeadDim = 16;
  const auto regroup = [](const GgufTensorInfo& tensor, std::vector<std::byte>& bytes) {
    if (tensor.name.find("attn_q") == std::string::npos &&
        tensor.name.find("attn_k") == std::string::npos) {
      return;
    }
    const std::vector<std::byte> old = bytes;
    const size_t row = bytes.size() / tensor.rows();
    for (size_t r = 0; r < tensor.rows(); ++r) {
      const size_t in_head = r % kHeadDim;
      const size_t from = r - in_head + (in_head < 8 ? 2 * in_head : 2 * (in_head - 8) + 1);
      std::memcpy(bytes.data() + r * row, old.data() + from * row, row);
    }
  };
  const auto expected = Logits(Changed("gqa_relu", {}));
  const Changes halves = {.set = {{"thermocline.rope.pairing", GgufValue::string("halves")}},
                          .edit = regroup};
  const auto found = Logits(Changed("gqa_relu", halves));
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 2e-4) << i;
  const auto wrong = Logits(Changed("gqa_relu", {.edit = regroup}));
  double most = 0;
  for (size_t i = 0; i < wrong.size(); ++i) {
    most = std::max<double>(most, std::abs(wrong[i] - expected[i]));
  }
  EXPECT_GT(most, 0.1);  // without the key the regrouped rows mean something else
}

}  // namespace
}  // namespace thermocline
