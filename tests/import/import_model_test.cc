// From a directory to a GGUF: what the file holds, and that models which cannot be put into one are
// refused by name.
#include "runtime/import/import_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/import/imported_tensor.h"
#include "tests/import/hf_directory.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ImportOptions OptionsOf(const char* type) {
  ImportOptions options;
  options.rule = ParseTypeRule(type);
  options.n_threads = 2;
  return options;
}

TEST(ImportModel, WritesKeysAndTensors) {
  HfDirectory model = TinyLlama();
  ASSERT_EQ(model.Convert(), "");
  const GgufReader gguf(model.out());
  EXPECT_EQ(gguf.RequireString("general.architecture"), "llama");
  EXPECT_EQ(gguf.RequireString("general.type"), "model");
  EXPECT_EQ(gguf.GetU64("general.file_type"), 0U);
  EXPECT_EQ(gguf.GetU64("llama.block_count"), 2U);
  EXPECT_EQ(gguf.GetU64("llama.context_length"), 64U);
  EXPECT_EQ(gguf.GetU64("llama.embedding_length"), 8U);
  EXPECT_EQ(gguf.GetU64("llama.feed_forward_length"), 12U);
  EXPECT_EQ(gguf.GetU64("llama.attention.head_count"), 4U);
  EXPECT_EQ(gguf.GetU64("llama.attention.head_count_kv"), 2U);
  EXPECT_EQ(gguf.GetU64("llama.attention.key_length"), 4U);
  EXPECT_EQ(gguf.GetU64("llama.rope.dimension_count"), 4U);
  EXPECT_EQ(gguf.GetF64("llama.rope.freq_base"), 500.0);
  EXPECT_EQ(gguf.GetU64("llama.vocab_size"), 16U);
  EXPECT_FLOAT_EQ(static_cast<float>(*gguf.GetF64("llama.attention.layer_norm_rms_epsilon")),
                  1e-5F);
  EXPECT_EQ(gguf.Find("llama.hidden_activation"), nullptr);
  EXPECT_EQ(gguf.RequireString("tokenizer.ggml.model"), "no_vocab");
  EXPECT_THAT(model.report.notes.at(0).text, HasSubstr("no tokenizer"));
  std::vector<std::string> names;
  for (const GgufTensorInfo& tensor : gguf.tensors()) names.push_back(tensor.name);
  ASSERT_EQ(names.size(), 21U);
  EXPECT_EQ(names.front(), "token_embd.weight");
  EXPECT_EQ(names[1], "blk.0.attn_norm.weight");
  EXPECT_EQ(names.back(), "output.weight");
  EXPECT_EQ(ValuesOf(gguf, "blk.1.ffn_down.weight"),
            HfDirectory::Values("model.layers.1.mlp.down_proj.weight", {8, 12}));
}

TEST(ImportModel, TurnsHeadsToAdjacentPairs) {
  HfDirectory model = TinyLlama();
  model.Add("model.layers.0.self_attn.q_proj.bias", {16});
  ASSERT_EQ(model.Convert(), "");
  const GgufReader gguf(model.out());
  const auto source = HfDirectory::Values("model.layers.0.self_attn.q_proj.weight", {16, 8});
  const auto bias = HfDirectory::Values("model.layers.0.self_attn.q_proj.bias", {16});
  const auto found = ValuesOf(gguf, "blk.0.attn_q.weight");
  const auto found_bias = ValuesOf(gguf, "blk.0.attn_q.bias");
  ASSERT_EQ(found.size(), source.size());
  ASSERT_EQ(found_bias.size(), bias.size());
  constexpr size_t kFrom[] = {0, 2, 1, 3};  // dimension i turns with i + 2
  for (size_t r = 0; r < 16; ++r) {
    const size_t from = r / 4 * 4 + kFrom[r % 4];
    EXPECT_EQ(found[r * 8 + 5], source[from * 8 + 5]);
    EXPECT_EQ(found_bias[r], bias[from]);
  }
}

TEST(ImportModel, OrdersOfRows) {
  const HeadLayout heads{.n_heads = 4, .n_kv_heads = 2, .head_dim = 2, .rot_dim = 2};
  const auto rows = [&](HfTransform transform, int64_t n) {
    std::vector<int64_t> from;
    for (int64_t r = 0; r < n; ++r) from.push_back(SourceRow(transform, heads, r));
    return from;
  };
  // Falcon: two KV heads, each with its two queries, then its key and its value.
  EXPECT_THAT(rows(HfTransform::kQkvByKvHead, 16),
              ElementsAre(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
  const HeadLayout neox{.n_heads = 2, .n_kv_heads = 2, .head_dim = 2, .rot_dim = 2};
  std::vector<int64_t> from;
  for (int64_t r = 0; r < 12; ++r) from.push_back(SourceRow(HfTransform::kQkvByHead, neox, r));
  EXPECT_THAT(from, ElementsAre(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11));
  // Of a head of 6, 4 dimensions turn.
  const HeadLayout part{.n_heads = 1, .n_kv_heads = 1, .head_dim = 6, .rot_dim = 4};
  from.clear();
  for (int64_t r = 0; r < 6; ++r) from.push_back(SourceRow(HfTransform::kAdjacentQ, part, r));
  EXPECT_THAT(from, ElementsAre(0, 2, 1, 3, 4, 5));
}

TEST(ImportModel, StoresTypesAndTellsErrors) {
  HfDirectory model = TinyLlama();
  ASSERT_EQ(model.Convert(OptionsOf("F16")), "");
  const GgufReader gguf(model.out());
  EXPECT_EQ(gguf.FindTensor("blk.0.ffn_up.weight")->dtype, DType::kF16);
  EXPECT_EQ(gguf.FindTensor("blk.0.attn_norm.weight")->dtype, DType::kF32);
  EXPECT_EQ(gguf.GetU64("general.file_type"), 1U);
  HfDirectory other = TinyLlama();
  ASSERT_EQ(other.Convert(OptionsOf("Q8_0")), "");
  for (const TensorChange& change : other.report.changes) {
    EXPECT_NE(change.to, DType::kQ8_0) << "rows of 8, 12 and 16 are no blocks of 32";
  }
  const ImportReport plan = PlanImport(model.path(), OptionsOf("F16"));
  ASSERT_EQ(plan.changes.size(), model.report.changes.size());
  for (size_t i = 0; i < plan.changes.size(); ++i) {
    EXPECT_EQ(plan.changes[i].name, model.report.changes[i].name);
    EXPECT_EQ(plan.changes[i].to_bytes, model.report.changes[i].to_bytes);
  }
}

TEST(ImportModel, ReadsEightBitFloatsWithScales) {
  HfDirectory model = TinyLlama();
  model.config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {4, 4}}};
  model.tensors.header().erase("model.layers.0.mlp.up_proj.weight");
  std::string bytes(96, '\x38');  // 1.0
  bytes[8 * 5 + 6] = '\xC4';      // -3.0
  bytes[95] = '\x01';             // the smallest: 2^-9
  model.tensors.Add("model.layers.0.mlp.up_proj.weight", "F8_E4M3", {12, 8}, bytes);
  model.tensors.AddF32("model.layers.0.mlp.up_proj.weight_scale_inv", {3, 2}, {1, 2, 3, 0.5, 5, 8});
  ASSERT_EQ(model.Convert(OptionsOf("F32")), "");
  const auto values = ValuesOf(GgufReader(model.out()), "blk.0.ffn_up.weight");
  ASSERT_EQ(values.size(), 96U);
  EXPECT_EQ(values[0], 1);
  EXPECT_EQ(values[4], 2);
  EXPECT_EQ(values[8 * 5 + 6], -1.5);
  EXPECT_EQ(values[95], 8.0F / 512);
  ASSERT_EQ(model.Convert(), "");
  EXPECT_EQ(GgufReader(model.out()).FindTensor("blk.0.ffn_up.weight")->dtype, DType::kBF16);
  model.tensors.header().erase("model.layers.0.mlp.up_proj.weight_scale_inv");
  EXPECT_THAT(model.Convert(), HasSubstr("its scales"));
  model.tensors.AddF32("model.layers.0.mlp.up_proj.weight_scale_inv", {2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(model.Convert(), HasSubstr("a scale for each 4 x 4 weights of [12, 8]"));
}

TEST(ImportModel, ReadsBitnet) {
  HfDirectory model = TinyLlama();
  model.config["architectures"] = {"BitNetForCausalLM"};
  for (const std::string l : {"model.layers.0.", "model.layers.1."}) {
    model.Add(l + "self_attn.attn_sub_norm.weight", {16});
    model.Add(l + "mlp.ffn_sub_norm.weight", {12});
  }
  ASSERT_EQ(model.Convert(), "");
  EXPECT_EQ(ValuesOf(GgufReader(model.out()), "blk.0.ffn_up.weight"),
            HfDirectory::Values("model.layers.0.mlp.up_proj.weight", {12, 8}));
  // Rounded when it is read: to the mean of absolute values, or 0.
  model.config["quantization_config"] = {{"quant_method", "bitnet"},
                                         {"quantization_mode", "online"}};
  ASSERT_EQ(model.Convert(), "");
  auto values = ValuesOf(GgufReader(model.out()), "blk.0.ffn_up.weight");
  const float scale = *std::ranges::max_element(values);
  for (const float value : values) EXPECT_TRUE(value == 0 || std::abs(value) == scale);
  // Packed: rows 0 to 2 in the lowest bits, 3 to 5 in the next, and so on.
  model.config["quantization_config"] = {{"quant_method", "bitnet"},
                                         {"linear_class", "autobitlinear"}};
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  model.tensors.header().erase(name);
  model.tensors.Add(name, "U8", {3, 8}, std::string(24, '\x86'));  // 2, 1, 0, 2
  model.tensors.AddF32(name + "_scale", {1}, {0.5F});
  ASSERT_EQ(model.Convert(OptionsOf("F32")), "");
  values = ValuesOf(GgufReader(model.out()), "blk.0.ffn_up.weight");
  ASSERT_EQ(values.size(), 96U);
  EXPECT_EQ(values[0], 0.5F);
  EXPECT_EQ(values[3 * 8], 0);
  EXPECT_EQ(values[6 * 8], -0.5F);
  EXPECT_EQ(values[9 * 8], 0.5F);
}

TEST(ImportModel, LeavesOutWhatIsNoWeightAndTiesHeads) {
  HfDirectory model = TinyLlama();
  model.Add("model.layers.0.self_attn.rotary_emb.inv_freq", {2});
  model.config["tie_word_embeddings"] = true;
  ASSERT_EQ(model.Convert(), "");
  EXPECT_EQ(GgufReader(model.out()).FindTensor("output.weight"), nullptr);
}

struct Refusal {
  const char* name;
  const char* key;
  nlohmann::json value;
  const char* message;
};

class ImportRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(ImportRefusal, NamesTheKey) {
  HfDirectory model = TinyLlama();
  model.config[GetParam().key] = GetParam().value;
  EXPECT_THAT(model.Convert(), HasSubstr(GetParam().message));
  EXPECT_EQ(std::filesystem::exists(model.out()), false);
}

INSTANTIATE_TEST_SUITE_P(
    Configs, ImportRefusal,
    testing::Values(
        Refusal{"family",
                "architectures",
                {"MambaForCausalLM"},
                "key architectures: expected one of LlamaForCausalLM, SmolLM3ForCausalLM"},
        Refusal{"activation", "hidden_act", "mish", "key hidden_act: expected silu"},
        Refusal{"experts", "num_local_experts", 8, "key num_local_experts: expected no experts"},
        Refusal{"quantised",
                "quantization_config",
                {{"quant_method", "awq"}},
                "key quantization_config.quant_method: expected fp8"},
        Refusal{"rope",
                "rope_scaling",
                {{"rope_type", "magic"}, {"factor", 2}},
                "key rope_scaling.rope_type: expected default, linear"},
        Refusal{"rope_factor",
                "rope_scaling",
                {{"rope_type", "linear"}},
                "key rope_scaling.factor: expected a positive number"},
        Refusal{"no_layers", "num_hidden_layers", nullptr, "key num_hidden_layers"},
        Refusal{"zero_heads", "num_attention_heads", 0, "an integer from 1 to"},
        Refusal{"kv_heads", "num_key_value_heads", 3, "a divisor of 4 heads"},
        Refusal{"half_a_layer", "num_hidden_layers", 1.5, "an integer from 1 to"},
        Refusal{"huge", "hidden_size", 1e300, "an integer from 1 to"},
        Refusal{"more_layers", "num_hidden_layers", 3, "tensor model.layers.2.input_layernorm"},
        Refusal{"fewer_layers", "num_hidden_layers", 1, "a name that this family does not have"},
        Refusal{"shape", "intermediate_size", 16, "expected what the config says: [8, 16]"},
        Refusal{"vocabulary", "vocab_size", 17, "expected what the config says: [17, 8]"}),
    [](const auto& test) { return test.param.name; });

TEST(ImportModel, RefusesTensorsOutOfPlace) {
  HfDirectory model = TinyLlama();
  model.Add("model.layers.0.mlp.experts.0.up_proj.weight", {12, 8});
  EXPECT_THAT(model.Convert(), HasSubstr("tensor model.layers.0.mlp.experts.0.up_proj.weight"));
  HfDirectory integers = TinyLlama();
  integers.tensors.header().erase("model.norm.weight");
  integers.tensors.Add("model.norm.weight", "I32", {8}, std::string(32, '\0'));
  EXPECT_THAT(integers.Convert(), HasSubstr("found I32"));
  HfDirectory missing = TinyLlama();
  missing.tensors.header().erase("lm_head.weight");
  EXPECT_THAT(missing.Convert(), HasSubstr("tensor lm_head.weight is missing"));
}

// Whatever kind of value stands at a key, there is a file or an Error of one line.
TEST(ImportModel, TakesOrRefusesValuesOfEveryKind) {
  const nlohmann::json kinds[] = {
      nullptr, true, -1, 0, 3, 1e18, 0.5, "x", nlohmann::json::array(), {1, 2}, {{"a", 1}}};
  const nlohmann::json config = TinyLlama().config;
  std::vector<std::string> keys;
  for (const auto& [key, value] : config.items()) keys.push_back(key);
  for (const char* key : {"rope_scaling", "rope_parameters", "quantization_config", "text_config",
                          "sliding_window", "layer_types", "partial_rotary_factor"}) {
    keys.emplace_back(key);
  }
  HfDirectory model = TinyLlama();
  for (const std::string& key : keys) {
    for (const nlohmann::json& kind : kinds) {
      model.config = config;
      model.config[key] = kind;
      model.Write();
      const std::string message = MessageOf([&] { PlanImport(model.path(), {}); });
      EXPECT_THAT(message, Not(HasSubstr("\n"))) << key << ": " << kind;
    }
  }
}

}  // namespace
}  // namespace thermocline
