// How a model writes what is more than text: calls of tools, and the reasoning before an answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

enum class CallFormat : uint8_t {
  kGeneric,      // {"name": "f", "arguments": {...}}, or a list of such objects
  kHermes,       // <tool_call>{"name": "f", "arguments": {...}}</tool_call> (Hermes, Qwen)
  kLlama3,       // {"name": "f", "parameters": {...}}, maybe behind <|python_tag|>
  kMistral,      // [TOOL_CALLS][{"name": "f", "arguments": {...}, "id": "..."}]
  kMistralArgs,  // [TOOL_CALLS]f[ARGS]{...}
  kHarmony,      // <|channel|>commentary to=functions.f <|constrain|>json<|message|>{...} (gpt-oss)
};

struct ReplyFormat {
  CallFormat calls = CallFormat::kGeneric;
  // What stands around reasoning; empty: the model marks none (or has Harmony's channels).
  std::string think_open = {};
  std::string think_close = {};
  // The prompt ends within reasoning, so that the reply begins there.
  bool starts_thinking = false;

  bool thinks() const { return !think_close.empty(); }
};

// Finds the format in a chat template's source.
ReplyFormat DetectReplyFormat(std::string_view template_source);

// Whether a prompt's text ends with the beginning of reasoning: what starts_thinking is to be.
bool EndsInThinking(const ReplyFormat& format, std::string_view prompt);

// Returns the names of control tokens that a reply's parser must see in the text, where the
// vocabulary has them (control tokens else stand for no text).
std::vector<std::string> SpokenTokens(const ReplyFormat& format);

}  // namespace thermocline
