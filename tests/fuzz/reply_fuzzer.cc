// A libFuzzer harness of replies: whatever a model writes, it comes out the same in pieces of any
// size. The first byte of an input chooses the format and the size.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/reply/reply_parser.h"

namespace {

std::string Shown(const thermocline::ParsedReply& reply) {
  std::string out = reply.reasoning + "\x01" + reply.content;
  for (const thermocline::ParsedCall& call : reply.calls) {
    out += "\x01" + call.id + "\x01" + call.name + "\x01" + call.arguments;
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  thermocline::ReplyFormat format;
  format.calls = static_cast<thermocline::CallFormat>(data[0] % 6);
  if (format.calls != thermocline::CallFormat::kHarmony && data[0] % 4 != 0) {
    format.think_open = "<think>";
    format.think_close = "</think>";
    format.starts_thinking = data[0] >= 128;
  }
  const thermocline::ReplyParserOptions options{.tools = {"f", "python"},
                                                .new_id = [] { return std::string("ID"); }};
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = Shown(thermocline::ParseReply(format, options, text));
  const size_t step = 1 + data[0] / 6 % 7;
  thermocline::ReplyParser parser(format, options);
  thermocline::ParsedReply reply;
  for (size_t at = 0; at < text.size(); at += step) {
    reply.Add(parser.Push(text.substr(at, std::min(step, text.size() - at))));
  }
  reply.Add(parser.Finish());
  if (Shown(reply) != whole) std::abort();
  return 0;
}
