// What is no adapter, or not one that is computed here: which message it gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/lora/lora_fixture.h"
#include "tests/lora/lora_models.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class LoraErrors : public LoraTest {
 protected:
  std::string Open(const std::string& path) const {
    return MessageOf([&] { const OpenedModel opened(Options(model_, {{path}})); });
  }
  // What opening the adapter says where its config is changed so, or a tensor is.
  std::string WithConfig(const Json& changes) const {
    WriteAdapter(dir_.file("adapter"), factors_, changes);
    return Open(dir_.file("adapter"));
  }
  std::string WithTensors(const TestTensors& factors) const {
    WriteAdapter(dir_.file("adapter"), factors);
    return Open(dir_.file("adapter"));
  }

  std::string model_ = ImportFamily("llama");
  TestTensors factors_ = MakeAdapter(ReadTensors(LoraFamilies() + "llama"), false).factors;
  std::string gate_ = "base_model.model.model.layers.0.mlp.gate_proj.lora_";
};

TEST_F(LoraErrors, SayWhichKeyIsNotComputed) {
  EXPECT_EQ(WithConfig(Json::object()), "");
  EXPECT_THAT(WithConfig({{"use_dora", true}}), AllOf(HasSubstr("use_dora"), HasSubstr("DoRA")));
  EXPECT_THAT(WithConfig({{"bias", "all"}}), AllOf(HasSubstr("bias"), HasSubstr("expected none")));
  EXPECT_THAT(WithConfig({{"modules_to_save", {"lm_head"}}}), HasSubstr("modules_to_save"));
  EXPECT_THAT(WithConfig({{"rank_pattern", {{"q_proj", 8}}}}), HasSubstr("rank_pattern"));
  EXPECT_THAT(WithConfig({{"alpha_pattern", {{"q_proj", 8}}}}), HasSubstr("alpha_pattern"));
  EXPECT_THAT(WithConfig({{"peft_type", "IA3"}}), HasSubstr("expected LORA, found IA3"));
  EXPECT_THAT(WithConfig({{"r", 0}}), HasSubstr("key r"));
  EXPECT_THAT(WithConfig({{"r", 4}}), HasSubstr("expected a rank of 4"));
  EXPECT_THAT(WithConfig({{"lora_alpha", nullptr}}), HasSubstr("lora_alpha"));
  EXPECT_THAT(WithConfig({{"lora_alpha", "much"}}), HasSubstr("lora_alpha"));
}

TEST_F(LoraErrors, SayWhichTensorDoesNotFit) {
  TestTensors factors = factors_;
  factors.erase(gate_ + "A.weight");
  EXPECT_THAT(WithTensors(factors), AllOf(HasSubstr("gate_proj"), HasSubstr("found B alone")));
  factors = factors_;
  factors[gate_ + "B.weight"].shape = {5, 3};
  factors[gate_ + "B.weight"].values.resize(15);
  EXPECT_THAT(WithTensors(factors), AllOf(HasSubstr("gate_proj"), HasSubstr("and (5, 3)")));
  factors = factors_;
  factors["base_model.model.lm_head.lora_A.weight"] = factors_[gate_ + "A.weight"];
  EXPECT_THAT(WithTensors(factors), HasSubstr("lm_head"));
  factors = factors_;
  factors["base_model.model.model.layers.99.mlp.up_proj.lora_A.weight"] =
      factors_[gate_ + "A.weight"];
  EXPECT_THAT(WithTensors(factors), HasSubstr("layers.99"));
  factors = factors_;
  factors[gate_ + "magnitude_vector"] = factors_[gate_ + "A.weight"];
  EXPECT_THAT(WithTensors(factors), HasSubstr("lora_magnitude_vector"));
  factors = factors_;
  factors[gate_ + "A.default.weight"] = factors_[gate_ + "A.weight"];
  EXPECT_THAT(WithTensors(factors), HasSubstr("expected one A, found two"));
  EXPECT_THAT(WithTensors({}), HasSubstr("adapter"));
}

// In Gemma 3n's model layer 2 reads the keys and values of layer 0, and layer 3 those of layer 1.
TEST_F(LoraErrors, SayWhichLayerHasNoKeysAndValuesOfItsOwn) {
  model_ = ImportFamily("gemma3n");
  const TestTensors all = MakeAdapter(ReadTensors(LoraFamilies() + "gemma3n"), false).factors;
  const auto of_module = [&](const std::string& module) {
    TestTensors factors;
    for (const auto& [name, matrix] : all) {
      if (name.find("layers." + module + ".") != std::string::npos) factors[name] = matrix;
    }
    EXPECT_EQ(factors.size(), 2U) << module;
    return WithTensors(factors);
  };
  EXPECT_THAT(of_module("2.self_attn.k_proj"),
              AllOf(HasSubstr("layers.2.self_attn.k_proj cannot be adapted"),
                    HasSubstr("layer 2, which reads those of layer 0")));
  EXPECT_THAT(of_module("3.self_attn.v_proj"),
              AllOf(HasSubstr("layers.3.self_attn.v_proj cannot be adapted"),
                    HasSubstr("layer 3, which reads those of layer 1")));
  EXPECT_EQ(of_module("3.self_attn.q_proj"), "");
  EXPECT_EQ(of_module("1.self_attn.k_proj"), "");
}

TEST_F(LoraErrors, SayWhatIsNoAdapter) {
  EXPECT_THAT(Open(model_), AllOf(HasSubstr("general.type"), HasSubstr("expected adapter")));
  EXPECT_THAT(Open(dir_.file("none")), HasSubstr("none"));
  std::filesystem::create_directory(dir_.file("empty"));
  EXPECT_THAT(Open(dir_.file("empty")), HasSubstr("adapter_config.json"));
  WriteWholeFile(dir_.file("empty/adapter_config.json"), R"({"r": 2, "lora_alpha": 2})");
  EXPECT_THAT(Open(dir_.file("empty")), HasSubstr("adapter_model.safetensors"));
  // Of another model.
  const TestTensors other = ReadTensors(LoraFamilies() + "phi3");
  WriteAdapter(dir_.file("adapter"), MakeAdapter(other, false).factors);
  EXPECT_THAT(Open(dir_.file("adapter")), AllOf(HasSubstr("module"), HasSubstr("of llama")));
}

}  // namespace
}  // namespace thermocline
