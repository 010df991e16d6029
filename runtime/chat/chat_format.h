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

  // The tokens that the template writes behind a reply: a model that was trained on it ends its
  // replies with them. Empty where the template writes none, or text.
  const std::vector<int32_t>& reply_ends() const { return reply_ends_; }

 private:
  std::string Render(const nlohmann::ordered_json& messages, bool add_generation_prompt) const;
  std::vector<int32_t> FindReplyEnds() const;

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  nlohmann::ordered_json variables_;
  std::vector<int32_t> reply_ends_;
};

}  // namespace thermocline
