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
  std::vector<std::string> add_tensors = {};  // tensors of one element
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
    for (const std::string& name : changes.add_tensors) out.DeclareTensor(name, DType::kF32, {1});
    for (const GgufTensorInfo& tensor : in.tensors()) {
      if (Contains(changes.drop_tensors, tensor.name)) continue;
      const std::byte* data = in.TensorData(tensor);
      std::vector<std::byte> bytes(data, data + tensor.n_bytes);
      if (changes.edit) changes.edit(tensor, bytes);
      out.WriteTensor(tensor.name, bytes.data(), bytes.size());
    }
    const float one = 1;
    for (const std::string& name : changes.add_tensors) out.WriteTensor(name, &one, sizeof(one));
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
  const std::map<std::string, Activation> names = {
      {"silu", Activation::kSilu},          {"swiglu", Activation::kSilu},
      {"relu", Activation::kRelu},          {"reglu", Activation::kRelu},
      {"relu_sqr", Activation::kReluSqr},   {"gelu", Activation::kGelu},
      {"gelu_tanh", Activation::kGeluTanh}, {"gelu_new", Activation::kGeluTanh}};
  for (const auto& [name, activation] : names) {
    const std::string key = "llama.hidden_activation";
    EXPECT_EQ(Read(Changed("gqa_relu", {.set = {{key, GgufValue::string(name)}}})).activation,
              activation);
  }
  EXPECT_EQ(Read(Changed("gqa_relu", {.drop_keys = {"llama.hidden_activation"}})).activation,
            Activation::kSilu);
}

TEST_F(Families, ReluVariantsAreReadWithWhatTheyNeed) {
  const std::string key = "llama.hidden_activation";
  const std::string threshold_key = "llama.hidden_activation_threshold";
  const auto plain = Logits(Changed("gqa_relu", {}));

  // Changed() writes to one path: each file is used up before the next.
  const auto drelu = Changed("gqa_relu", {.set = {{key, GgufValue::string("drelu")}}});
  for (const LayerConfig& layer : Read(drelu).layers) EXPECT_TRUE(layer.ffn.relu_up);
  EXPECT_NE(Logits(drelu), plain);

  const auto fatrelu = Changed("gqa_relu", {.set = {{key, GgufValue::string("fatrelu")},
                                                    {threshold_key, GgufValue::f32(0.25F)}}});
  for (const LayerConfig& layer : Read(fatrelu).layers) {
    EXPECT_EQ(layer.ffn.activation, Activation::kRelu);
    EXPECT_EQ(layer.ffn.activation_threshold, 0.25F);
  }
  EXPECT_NE(Logits(fatrelu), plain);
  ExpectRefused({.set = {{key, GgufValue::string("fatrelu")}}}, threshold_key, "a positive number");
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
  ExpectRefused({.set = {{"llama.hidden_activation", text("mish")}}}, "hidden_activation", "silu");
  ExpectRefused({.set = {{"llama.rope.dimension_count", u32(7)}}}, "dimension_count", "even");
  ExpectRefused({.set = {{"llama.rope.dimension_count", u32(64)}}}, "dimension_count", "16");
  ExpectRefused({.set = {{"llama.rope.scaling.type", text("su")}}}, "rope.scaling.type",
                "none, linear, yarn or longrope");
  ExpectRefused({.set = {{"llama.rope.scaling.type", text("longrope")}}}, "rope.scaling.type",
                "rope_factors_short.weight");
  ExpectRefused({.set = {{"llama.rope.freq_base", GgufValue::f32(-1)}}}, "freq_base", "positive");
  ExpectRefused({.set = {{"thermocline.rope.pairing", text("x")}}}, "rope.pairing", "adjacent");
}

// Such a model would run and write nonsense.
TEST_F(Families, RefusesKeysThatAskForWhatIsNotComputed) {
  const auto u32 = [](uint32_t v) { return GgufValue::u32(v); };
  const auto refused = [&](const std::string& key, const GgufValue& value,
                           const std::string& expected, const std::string& found) {
    const std::string whole = "llama." + key;
    const std::string path = Changed("gqa_relu", {.set = {{whole, value}}});
    EXPECT_THAT([&] { Read(path); },
                ThrowsMessage<Error>(AllOf(HasSubstr(path), HasSubstr("key " + whole),
                                           HasSubstr("expected " + expected), HasSubstr(found))));
  };
  refused("expert_count", u32(8), "0: one dense FFN per layer", "8");
  refused("attention.max_alibi_bias", GgufValue::f32(8), "0: positions by rotation", "8");
  refused("attention.clamp_kqv", GgufValue::f32(8), "0: queries", "8");
  refused("logit_scale", GgufValue::f32(8), "1: logits", "8");
  refused("attn_logit_softcapping", GgufValue::f32(-1), "a positive number", "-1");
  refused("attention.sliding_window_pattern",
          GgufValue::array(GgufType::kBool, std::vector<uint64_t>{1}),
          "a number, or true and false", "1 of them");
  refused("use_parallel_residual", GgufValue::boolean(true), "false", "true");
  refused("attention.causal", GgufValue::boolean(false), "true", "false");
  refused("vocab_size", u32(287), "288, one per row of token_embd.weight", "287");
  ExpectRefused({.set = {{"llama.attention.layer_norm_epsilon", GgufValue::f32(1e-5)}},
                 .drop_keys = {"llama.attention.layer_norm_rms_epsilon"}},
                "llama.attention.layer_norm_epsilon", "RMS norms");
}

TEST_F(Families, TakesKeysThatAskForNothing) {
  const ModelConfig c = Read(Changed("gqa_relu", {}));
  const auto context = static_cast<uint32_t>(c.max_seq_len);
  const Changes harmless = {.set = {{"llama.attention.sliding_window", GgufValue::u32(context)},
                                    {"llama.expert_count", GgufValue::u32(0)},
                                    {"llama.attn_logit_softcapping", GgufValue::f32(0)},
                                    {"llama.final_logit_softcapping", GgufValue::f32(0)},
                                    {"llama.embedding_scale", GgufValue::f32(1)},
                                    {"llama.logit_scale", GgufValue::f32(1)},
                                    {"llama.residual_scale", GgufValue::f32(1)},
                                    {"llama.attention.scale", GgufValue::f32(0.25)},
                                    {"llama.use_parallel_residual", GgufValue::boolean(false)},
                                    {"llama.vocab_size", GgufValue::u32(288)},
                                    {"llama.attention.layer_norm_epsilon", GgufValue::f32(1e-5)}}};
  EXPECT_EQ(Logits(Changed("gqa_relu", harmless)), Logits(Changed("gqa_relu", {})));
}

// What goldens of families show to be right, any family's file may ask for.
TEST_F(Families, KeysThatAskForSomethingChangeTheLogits) {
  const auto plain = Logits(Changed("gqa_relu", {}));
  const std::map<std::string, GgufValue> asks = {{"attention.sliding_window", GgufValue::u32(2)},
                                                 {"attn_logit_softcapping", GgufValue::f32(0.5)},
                                                 {"final_logit_softcapping", GgufValue::f32(3)},
                                                 {"embedding_scale", GgufValue::f32(12)},
                                                 {"residual_scale", GgufValue::f32(0.5)},
                                                 {"attention.scale", GgufValue::f32(0.5)}};
  for (const auto& [key, value] : asks) {
    EXPECT_NE(Logits(Changed("gqa_relu", {.set = {{"llama." + key, value}}})), plain) << key;
  }
}

TEST_F(Families, PerLayerArraysAreChecked) {
  const auto array = [](std::vector<int64_t> values) {
    return GgufValue::array(GgufType::kI32, std::move(values));
  };
  const std::string d_ff = "llama.feed_forward_length";
  ExpectRefused({.set = {{d_ff, array({96})}}}, d_ff, "one for each of 2 layers");
  ExpectRefused({.set = {{d_ff, array({})}}}, d_ff, "one for each of 2 layers");
  ExpectRefused({.set = {{d_ff, array({96, 0})}}}, d_ff, "in every layer");
  ExpectRefused({.set = {{d_ff, array({96, -1})}}}, d_ff, "in every layer");
  ExpectRefused({.set = {{d_ff, GgufValue::strings({"96", "96"})}}}, d_ff, "an integer");
  ExpectRefused({.set = {{"llama.attention.head_count_kv", array({2, 3})}}},
                "llama.attention.head_count_kv", "a divisor of 4 heads in layer 1");
  ExpectRefused({.set = {{"llama.attention.head_count", array({4, 2})}},
                 .drop_keys = {"llama.attention.key_length", "llama.attention.value_length"}},
                "llama.attention.key_length", "where layers differ");
  const ModelConfig c = Read(
      Changed("gqa_relu",
              {.set = {{d_ff, GgufValue::array(GgufType::kU32, std::vector<uint64_t>{96, 32})}}}));
  EXPECT_EQ(c.d_ff, 96);
  EXPECT_EQ(c.layers[1].ffn.d_ff, 32);
}

TEST_F(Families, RefusesTensorsThatItDoesNotComputeWith) {
  for (const std::string name :
       {"blk.1.attn_q_norm.weight", "blk.0.attn_norm.bias", "blk.0.ffn_gate_exps.weight",
        "output.bias", "blk.x.ffn_up.weight"}) {
    EngineOptions options;
    options.model_path = Changed("gqa_relu", {.add_tensors = {name}});
    EXPECT_THAT([&] { OpenedModel opened(options); },
                ThrowsMessage<Error>(AllOf(HasSubstr("does not compute with"), HasSubstr(name),
                                           HasSubstr("family llama"))));
  }
  EngineOptions options;
  options.model_path = Changed("gqa_relu", {.add_tensors = {"blk.0.ffn_up_down.weight"}});
  EXPECT_THAT([&] { OpenedModel opened(options); },
              ThrowsMessage<Error>(AllOf(HasSubstr("blk.0.ffn_up_down.weight"),
                                         HasSubstr("how the FFN is stored"))));
}

TEST_F(Families, BlockCountIsThatOfTheTensors) {
  for (const uint32_t n_layers : {1U, 3U}) {
    EngineOptions options;
    options.model_path =
        Changed("gqa_relu", {.set = {{"llama.block_count", GgufValue::u32(n_layers)}}});
    EXPECT_THAT([&] { OpenedModel opened(options); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("llama.block_count"), HasSubstr("layers up to blk.1."))));
  }
}

TEST_F(Families, NumbersOfLayersMayBeAnything) {
  for (const std::string name : {"blk.9223372036854775807.x", "blk.99999999999999999999.x"}) {
    EngineOptions options;
    options.model_path = Changed("gqa_relu", {.add_tensors = {name}});
    EXPECT_THROW(OpenedModel{options}, Error);
  }
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
  refused({.set = {{"tokenizer.ggml.model", GgufValue::string("rwkv")}}}, "rwkv");
}

TEST_F(Families, HalvesPairingWithRowsInThatOrderGivesTheSameLogits) {
  // The pairing changes from adjacent pairs (2i, 2i+1) to halves (i, i + 8), so the rows of each
  // head of q and k move.
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
