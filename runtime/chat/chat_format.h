// How a model wants to see a conversation: the chat template and the tokens that it is made of.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/chat/conversation.h"
#include "runtime/text/jinja/chat_template.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

struct ChatFormatOptions {
  std::string source;  // the template's text
  std::string name;    // where it is from, for messages
  // Further variables of the template, an object: see ChatInput::extra.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
};

class ChatFormat {
 public:
  // `tokenizer` must outlive the format. Throws Error for a template that is not well-formed.
  ChatFormat(const ChatFormatOptions& options, const Tokenizer& tokenizer);

  // Returns the ids of the prompt that asks for the next reply. Names of control tokens are tokens
  // where the template writes them and text where messages do (shielded_text.h). BOS comes once.
  // Throws Error where the template refuses the conversation.
  std::vector<int32_t> Encode(const Conversation& conversation) const;

  // What a prompt is made of beyond a conversation, for who talks to the template directly.
  struct PromptInput {
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    nlohmann::ordered_json tools = nullptr;  // null: the template sees none
    bool add_generation_prompt = true;
    // Further variables; they take precedence over those of the format.
    nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  };
  // Returns the text of the prompt, with a mark in every name of a control token that stands in a
  // message or a tool (shielded_text.h). Throws Error where the template refuses it.
  std::string ShieldedPrompt(const PromptInput& input) const;

  // The tokens that the template writes behind a reply: a model that was trained on it ends its
  // replies with them. Empty where the template writes none, or text.
  const std::vector<int32_t>& reply_ends() const { return reply_ends_; }

 private:
  std::string Render(const PromptInput& input) const;
  std::vector<int32_t> FindReplyEnds() const;

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  nlohmann::ordered_json variables_;
  std::vector<int32_t> reply_ends_;
};

}  // namespace thermocline
