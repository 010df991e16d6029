// A libFuzzer harness of chat templates: whatever the bytes, there is a text or an Error of one
// line, within the limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/core/error.h"
#include "runtime/text/jinja/chat_template.h"

namespace {

using nlohmann::ordered_json;

// What templates of models look at.
thermocline::ChatInput Conversation() {
  thermocline::ChatInput input;
  input.messages = ordered_json::parse(R"([
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "H\u00e9"}, {"type": "image"}]},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "abcdef123", "type": "function", "function": {"name": "f", "arguments": {"a": 1.5}}}]},
    {"role": "tool", "tool_call_id": "abcdef123", "content": "{}"},
    {"role": "user", "content": " x "}])");
  input.tools = ordered_json::parse(R"([{"type": "function", "function": {"name": "f",
    "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}}])");
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.extra = {
      {"x", 5}, {"l", {3, 1, 2}}, {"s", "W\u00f6rld"}, {"d", {{"b", 1}, {"a", nullptr}}}};
  input.now = std::tm{};
  input.now->tm_mday = 1;
  input.now->tm_year = 126;
  return input;
}

thermocline::jinja::Limits FuzzLimits() {
  thermocline::jinja::Limits limits;
  limits.max_steps = 20'000;
  limits.max_output_bytes = 1 << 16;
  limits.max_value_bytes = 1 << 16;
  limits.max_memory_bytes = 4 << 20;
  return limits;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const thermocline::ChatInput input = Conversation();
  try {
    const std::string source(reinterpret_cast<const char*>(data), size);
    const thermocline::ChatTemplate chat(source, "fuzz.jinja", FuzzLimits());
    if (chat.Render(input).size() > FuzzLimits().max_output_bytes) std::abort();
  } catch (const thermocline::Error& error) {
    for (const char* c = error.what(); *c != '\0'; ++c) {
      if (static_cast<unsigned char>(*c) < 0x20) std::abort();  // not one line
    }
  }
  return 0;
}
