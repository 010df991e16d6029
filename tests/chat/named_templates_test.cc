// The templates that are known by name, each with two turns behind the system's words. The texts
// are the public formats' own.
#include "runtime/chat/named_templates.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "runtime/text/jinja/chat_template.h"

namespace thermocline {
namespace {

const std::map<std::string, std::string>& Expected() {
  static const std::map<std::string, std::string> prompts = {
      {"chatml",
       "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n"
       "<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n"
       "<|im_start|>assistant\n"},
      {"command-r",
       "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|>"
       "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>U1<|END_OF_TURN_TOKEN|>"
       "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A1<|END_OF_TURN_TOKEN|>"
       "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>U2<|END_OF_TURN_TOKEN|>"
       "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"},
      {"deepseek",
       "<s>S<｜User｜>U1<｜Assistant｜>A1<｜end▁of▁sentence｜><｜User｜>U2<｜Assistant｜>"},
      {"gemma",
       "<s><start_of_turn>user\nS\n\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n"
       "<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n"},
      {"llama2", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU1 [/INST] A1 </s><s>[INST] U2 [/INST]"},
      {"llama3",
       "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\n"},
      {"mistral", "<s>[INST] S\n\nU1 [/INST] A1</s>[INST] U2 [/INST]"},
      {"phi3",
       "<|system|>\nS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\nA1<|end|>\n"
       "<|user|>\nU2<|end|>\n<|assistant|>\n"},
      {"vicuna", "S\n\nUSER: U1\nASSISTANT: A1</s>\nUSER: U2\nASSISTANT:"},
      {"zephyr",
       "<|system|>\nS</s>\n<|user|>\nU1</s>\n<|assistant|>\nA1</s>\n<|user|>\nU2</s>\n"
       "<|assistant|>\n"},
  };
  return prompts;
}

TEST(NamedTemplates, WriteThePublicFormats) {
  const ChatInput input = {.messages = nlohmann::ordered_json::parse(R"([
                             {"role": "system", "content": "S"},
                             {"role": "user", "content": "U1"},
                             {"role": "assistant", "content": "A1"},
                             {"role": "user", "content": "U2"}])"),
                           .bos_token = "<s>",
                           .eos_token = "</s>"};
  std::string list;
  for (const auto& [name, prompt] : Expected()) {
    const auto source = NamedTemplate(name);
    ASSERT_TRUE(source) << name;
    EXPECT_EQ(ChatTemplate(std::string(*source), name).Render(input), prompt) << name;
    list += (list.empty() ? "" : ", ") + name;
  }
  EXPECT_EQ(NamedTemplateList(), list);
  EXPECT_FALSE(NamedTemplate("none"));
}

}  // namespace
}  // namespace thermocline
