#include "runtime/chat/chat_format.h"

#include <utility>

#include "runtime/core/error.h"
#include "runtime/text/shielded_text.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

// U+FDD1, which stands for a reply where only its place is of interest.
constexpr std::string_view kReplyMark = "\xEF\xB7\x91";

// Shields every text in a message, however deep it lies (calls of tools).
Json Shielded(const Tokenizer& tokenizer, const Json& json) {
  if (json.is_string()) {
    return ShieldControlTokens(tokenizer, json.get_ref<const std::string&>());
  }
  Json copy = json;
  if (json.is_structured()) {
    for (Json& item : copy) item = Shielded(tokenizer, item);
  }
  return copy;
}

std::string NameOf(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? "" : tokenizer.TokenName(id);
}

}  // namespace

ChatFormat::ChatFormat(const ChatFormatOptions& options, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      template_(options.source, options.name),
      variables_(options.variables),
      reply_ends_(FindReplyEnds()) {}

std::string ChatFormat::Render(const PromptInput& input) const {
  Json variables = variables_;
  variables.update(input.variables);
  return template_.Render({.messages = input.messages,
                           .tools = input.tools,
                           .add_generation_prompt = input.add_generation_prompt,
                           .bos_token = NameOf(tokenizer_, tokenizer_.bos_id()),
                           .eos_token = NameOf(tokenizer_, tokenizer_.eos_id()),
                           .extra = std::move(variables)});
}

std::string ChatFormat::ShieldedPrompt(const PromptInput& input) const {
  PromptInput shielded = input;
  shielded.messages = Shielded(tokenizer_, input.messages);
  shielded.tools = Shielded(tokenizer_, input.tools);
  return Render(shielded);
}

std::vector<int32_t> ChatFormat::Encode(const Conversation& conversation) const {
  return EncodeShielded(tokenizer_, ShieldedPrompt({.messages = conversation.messages()}));
}

std::vector<int32_t> ChatFormat::FindReplyEnds() const {
  const Json messages = {{{"role", "user"}, {"content", "Hello"}},
                         {{"role", "assistant"}, {"content", kReplyMark}}};
  std::string text;
  try {
    text = Render({.messages = messages, .add_generation_prompt = false});
  } catch (const Error&) {
    return {};  // a template for something else; a real conversation will tell
  }
  const size_t reply = text.rfind(kReplyMark);
  if (reply == std::string::npos) return {};
  const std::string_view behind = std::string_view(text).substr(reply + kReplyMark.size());
  const auto match = tokenizer_.FindControlToken(behind);
  if (!match || behind.find_first_not_of(" \t\r\n") != match->begin) return {};
  return {match->id};
}

}  // namespace thermocline
