// What a config's rotations, windows and activations become.
#include "runtime/import/config_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "runtime/import/hf_config.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

Json SmallConfig(const char* name) {
  return {{"architectures", {name}},  {"hidden_size", 32},
          {"num_hidden_layers", 8},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"intermediate_size", 64},
          {"vocab_size", 100},        {"max_position_embeddings", 4096}};
}

class MappedConfig {
 public:
  explicit MappedConfig(const Json& json) {
    const HfConfig config(json, "config.json");
    imported_ = MapConfig(FindHfImport(config), config);
    for (const auto& [key, value] : imported_.keys) keys_[key] = value;
  }
  bool Has(const std::string& key) const { return keys_.contains(key); }
  double Number(const std::string& key) const {
    const auto found = keys_.find(key);
    if (found == keys_.end()) return NAN;
    return std::visit(
        [](const auto& value) -> double {
          if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>) {
            return static_cast<double>(value);
          }
          return NAN;
        },
        found->second.value);
  }
  std::string Text(const std::string& key) const {
    const auto found = keys_.find(key);
    const auto* text =
        found == keys_.end() ? nullptr : std::get_if<std::string>(&found->second.value);
    return text == nullptr ? "" : *text;
  }
  std::vector<uint64_t> Flags(const std::string& key) const {
    const auto found = keys_.find(key);
    if (found == keys_.end()) return {};
    return std::get<std::vector<uint64_t>>(std::get<GgufValue::Array>(found->second.value));
  }
  const std::vector<ImportedTensor>& tensors() const { return imported_.tensors; }

 private:
  ImportedConfig imported_;
  std::map<std::string, GgufValue> keys_;
};

TEST(ConfigKeys, Llama3RopeBecomesDivisors) {
  Json json = SmallConfig("LlamaForCausalLM");
  json["head_dim"] = 64;
  json["rope_theta"] = 500000.0;
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 8192}};
  const MappedConfig mapped(json);
  ASSERT_EQ(mapped.tensors().size(), 1U);
  const ImportedTensor& freqs = mapped.tensors().front();
  EXPECT_EQ(freqs.name, "rope_freqs.weight");
  ASSERT_EQ(freqs.computed.size(), 32U);
  EXPECT_EQ(freqs.computed.front(), 1);
  EXPECT_EQ(freqs.computed.back(), 8);
  EXPECT_TRUE(std::ranges::is_sorted(freqs.computed));
  EXPECT_FALSE(mapped.Has("llama.rope.scaling.type"));
}

TEST(ConfigKeys, YarnCountsItsMagnitudeOnce) {
  Json json = SmallConfig("Qwen2ForCausalLM");
  json["rope_scaling"] = {{"type", "yarn"},
                          {"factor", 4.0},
                          {"original_max_position_embeddings", 1024},
                          {"attention_factor", 1.5}};
  const MappedConfig mapped(json);
  EXPECT_EQ(mapped.Text("qwen2.rope.scaling.type"), "yarn");
  EXPECT_EQ(mapped.Number("qwen2.rope.scaling.original_context_length"), 1024);
  EXPECT_NEAR(mapped.Number("qwen2.rope.scaling.attn_factor"), 1.5 / (1 + 0.1 * std::log(4)), 1e-6);
  json["rope_scaling"]["mscale"] = 1.0;
  EXPECT_THAT(MessageOf([&] { MappedConfig again(json); }), HasSubstr("rope_scaling.mscale"));
}

TEST(ConfigKeys, RopeOfEitherGenerationOfConfigs) {
  Json json = SmallConfig("Gemma3ForCausalLM");
  json["head_dim"] = 16;
  json["sliding_window"] = 512;
  json["rope_parameters"] = {
      {"full_attention", {{"rope_theta", 1e6}, {"rope_type", "linear"}, {"factor", 8.0}}},
      {"sliding_attention", {{"rope_theta", 1e4}, {"rope_type", "default"}}}};
  const MappedConfig mapped(json);
  EXPECT_EQ(mapped.Number("gemma3.rope.freq_base"), 1e6);
  EXPECT_EQ(mapped.Number("gemma3.rope.freq_base_swa"), 1e4);
  EXPECT_EQ(mapped.Text("gemma3.rope.scaling.type"), "linear");
  EXPECT_EQ(mapped.Number("gemma3.rope.scaling.factor"), 8);
  EXPECT_EQ(mapped.Number("gemma3.attention.sliding_window"), 512);
  EXPECT_FALSE(mapped.Has("gemma3.attention.sliding_window_pattern"));
}

TEST(ConfigKeys, LongRopeHasTwoLists) {
  Json json = SmallConfig("Phi3ForCausalLM");
  json["original_max_position_embeddings"] = 1024;
  json["rope_scaling"] = {
      {"type", "longrope"}, {"long_factor", {1, 2, 3, 4}}, {"short_factor", {1, 1, 1, 2}}};
  const MappedConfig mapped(json);
  ASSERT_EQ(mapped.tensors().size(), 2U);
  EXPECT_EQ(mapped.tensors()[0].name, "rope_factors_long.weight");
  EXPECT_THAT(mapped.tensors()[1].computed, ElementsAre(1, 1, 1, 2));
  EXPECT_NEAR(mapped.Number("phi3.rope.scaling.attn_factor"),
              std::sqrt(1 + std::log(4) / std::log(1024)), 1e-6);
  EXPECT_EQ(mapped.Number("phi3.attention.sliding_window"), 0);
  json["rope_scaling"]["long_factor"] = {1, 2, 3};
  EXPECT_THAT(MessageOf([&] { MappedConfig again(json); }), HasSubstr("4 numbers"));
}

TEST(ConfigKeys, Windows) {
  Json json = SmallConfig("Cohere2ForCausalLM");
  json["sliding_window"] = 256;
  json["sliding_window_pattern"] = 4;
  EXPECT_FALSE(MappedConfig(json).Has("cohere2.attention.sliding_window_pattern"));
  json["sliding_window_pattern"] = 2;
  EXPECT_THAT(MappedConfig(json).Flags("cohere2.attention.sliding_window_pattern"),
              ElementsAre(1, 0, 1, 0, 1, 0, 1, 0));
  Json qwen = SmallConfig("Qwen2ForCausalLM");
  qwen["sliding_window"] = 256;
  qwen["max_window_layers"] = 6;
  EXPECT_FALSE(MappedConfig(qwen).Has("qwen2.attention.sliding_window"));
  qwen["use_sliding_window"] = true;
  EXPECT_EQ(MappedConfig(qwen).Number("qwen2.attention.sliding_window"), 256);
  EXPECT_THAT(MappedConfig(qwen).Flags("qwen2.attention.sliding_window_pattern"),
              ElementsAre(0, 0, 0, 0, 0, 0, 1, 1));
  qwen["layer_types"] = {"full_attention"};
  EXPECT_THAT(MessageOf([&] { MappedConfig again(qwen); }), HasSubstr("one for each of 8 layers"));
}

TEST(ConfigKeys, WhatFamiliesAdd) {
  Json granite = SmallConfig("GraniteForCausalLM");
  granite["attention_multiplier"] = 0.5;
  granite["logits_scaling"] = 2.0;
  EXPECT_EQ(MappedConfig(granite).Number("granite.attention.scale"), 0.5);
  EXPECT_EQ(MappedConfig(granite).Number("granite.logit_scale"), 2);
  Json gemma = SmallConfig("Gemma2ForCausalLM");
  gemma["head_dim"] = 16;
  gemma["query_pre_attn_scalar"] = 16;
  EXPECT_FALSE(MappedConfig(gemma).Has("gemma2.attention.scale"));
  gemma["query_pre_attn_scalar"] = 64;
  EXPECT_EQ(MappedConfig(gemma).Number("gemma2.attention.scale"), 0.125);
  Json relu = SmallConfig("LlamaForCausalLM");
  relu["hidden_act"] = "relu";
  EXPECT_EQ(MappedConfig(relu).Text("llama.hidden_activation"), "relu");
  Json minicpm = SmallConfig("MiniCPMForCausalLM");
  minicpm["scale_emb"] = 12;
  minicpm["scale_depth"] = 1.4;
  minicpm["dim_model_base"] = 16;
  minicpm["hidden_act"] = "fatrelu";
  EXPECT_THAT(MessageOf([&] { MappedConfig again(minicpm); }), HasSubstr("key hidden_act_param"));
  minicpm["hidden_act_param"] = 0.01;
  const MappedConfig mapped(minicpm);
  EXPECT_EQ(mapped.Number("minicpm.embedding_scale"), 12);
  EXPECT_NEAR(mapped.Number("minicpm.residual_scale"), 1.4 / std::sqrt(8), 1e-6);
  EXPECT_EQ(mapped.Number("minicpm.logit_scale"), 2);
  EXPECT_EQ(mapped.Text("minicpm.hidden_activation"), "fatrelu");
  EXPECT_NEAR(mapped.Number("minicpm.hidden_activation_threshold"), 0.01, 1e-8);
  Json falcon = SmallConfig("FalconForCausalLM");
  falcon["multi_query"] = true;
  EXPECT_EQ(MappedConfig(falcon).Number("falcon.attention.head_count_kv"), 1);
  EXPECT_EQ(MappedConfig(falcon).Number("falcon.feed_forward_length"), 128);
  falcon["alibi"] = true;
  EXPECT_THAT(MessageOf([&] { MappedConfig again(falcon); }),
              HasSubstr("key alibi: expected false"));
  Json smol = SmallConfig("SmolLM3ForCausalLM");
  EXPECT_FALSE(MappedConfig(smol).Has("smollm3.no_rope_layer_interval"));
  smol["no_rope_layers"] = {1, 0, 1, 0, 1, 0, 1, 0};
  EXPECT_EQ(MappedConfig(smol).Number("smollm3.no_rope_layer_interval"), 2);
  smol["no_rope_layers"] = {1, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_EQ(MappedConfig(smol).Number("smollm3.no_rope_layer_interval"), 9);
  smol["no_rope_layers"] = {1, 0, 0, 1, 1, 1, 1, 1};
  EXPECT_THAT(MessageOf([&] { MappedConfig again(smol); }), HasSubstr("another pattern"));
}

}  // namespace
}  // namespace thermocline
