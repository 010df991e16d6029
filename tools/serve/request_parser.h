// From the JSON of each API to one description of what is to be generated.
#pragma once

#include "tools/serve/chat_prompt.h"
#include "tools/serve/constraints.h"
#include "tools/serve/generation.h"
#include "tools/serve/sampling_fields.h"

namespace thermocline {

// Threads may parse at the same time. All methods throw ApiError.
class RequestParser {
 public:
  // All must outlive this.
  RequestParser(const Tokenizer& tokenizer, const ChatPrompts& chat, Constraints& constraints,
                const RequestDefaults& defaults)
      : tokenizer_(tokenizer), chat_(chat), constraints_(constraints), defaults_(defaults) {}

  GenerationSpec Native(const ApiJson& request) const;
  GenerationSpec TextCompletions(const ApiJson& request) const;
  GenerationSpec Chat(const ApiJson& request) const;
  GenerationSpec Responses(const ApiJson& request) const;
  GenerationSpec Messages(const ApiJson& request) const;
  // A request of a chat completion's form, as a prompt.
  ChatPrompt PromptOf(const ApiJson& chat_request) const;
  // The settings of a request that says nothing.
  GenerationSpec Defaults() const { return Base(ApiJson::object(), Api::kNative); }

 private:
  GenerationSpec Base(const ApiJson& request, Api api) const;
  GenerationSpec ChatForm(const ApiJson& chat_request, Api api,
                          std::initializer_list<const char*> limits) const;
  // format: of the reply, whose reasoning is not constrained; null: all of it is.
  void ReadConstraint(const Fields& fields, const ReplyFormat* format, GenerationSpec* spec) const;
  void TakeSchema(const ApiJson& schema, const ReplyFormat* format, GenerationSpec* spec) const;
  void ReadTools(const Fields& fields, const ChatRequest& chat, const ReplyFormat& format,
                 GenerationSpec* spec) const;
  std::unordered_map<int32_t, std::string> Spoken(const ReplyFormat& format) const;

  const Tokenizer& tokenizer_;
  const ChatPrompts& chat_;
  Constraints& constraints_;
  const RequestDefaults& defaults_;
};

}  // namespace thermocline
