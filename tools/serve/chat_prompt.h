// Conversations of requests as prompts, by the chat template of the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/chat/chat_format.h"
#include "runtime/reply/reply_format.h"
#include "tools/serve/chat_request.h"

namespace thermocline {

enum class Thinking : unsigned char { kAuto, kOn, kOff };

struct ChatPrompt {
  std::string text;  // as it is shown
  std::vector<int32_t> ids;
  ReplyFormat format;  // of the reply
};

class ChatPrompts {
 public:
  // `tokenizer` must outlive this. Throws Error for a template that is not well-formed.
  ChatPrompts(const ChatFormatOptions& options, const Tokenizer& tokenizer, Thinking thinking);

  // Throws ApiError where the template refuses the conversation.
  ChatPrompt Make(const ChatRequest& request) const;
  const std::vector<int32_t>& reply_ends() const { return format_.reply_ends(); }
  const std::string& source() const { return source_; }

 private:
  std::string Render(const ChatRequest& request) const;
  // Closes a thought that the template opens although none is wanted.
  void CloseThought(std::string* prompt) const;

  std::string source_;
  const ReplyFormat reply_format_;
  const Tokenizer& tokenizer_;
  ChatFormat format_;
  Thinking thinking_;
};

}  // namespace thermocline
