#include "runtime/reply/reply_format.h"

#include <utility>

namespace thermocline {
namespace {

constexpr std::pair<std::string_view, std::string_view> kThinkTags[] = {
    {"<think>", "</think>"},           {"<|START_THINKING|>", "<|END_THINKING|>"},
    {"[THINK]", "[/THINK]"},           {"<thinking>", "</thinking>"},
    {"<seed:think>", "</seed:think>"}, {"<reasoning>", "</reasoning>"},
};

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

CallFormat DetectCalls(std::string_view source) {
  if (Has(source, "<|channel|>") && Has(source, "<|message|>")) return CallFormat::kHarmony;
  if (Has(source, "[TOOL_CALLS]")) {
    return Has(source, "[ARGS]") ? CallFormat::kMistralArgs : CallFormat::kMistral;
  }
  if (Has(source, "<tool_call>")) return CallFormat::kHermes;
  if (Has(source, "<|python_tag|>") || Has(source, "Environment: ipython") ||
      (Has(source, "<|start_header_id|>") && Has(source, "ipython"))) {
    return CallFormat::kLlama3;
  }
  return CallFormat::kGeneric;
}

}  // namespace

ReplyFormat DetectReplyFormat(std::string_view template_source) {
  ReplyFormat format{.calls = DetectCalls(template_source)};
  if (format.calls == CallFormat::kHarmony) return format;
  for (const auto& [open, close] : kThinkTags) {
    if (!Has(template_source, close) && !Has(template_source, open)) continue;
    format.think_open = open;
    format.think_close = close;
    break;
  }
  return format;
}

bool EndsInThinking(const ReplyFormat& format, std::string_view prompt) {
  if (!format.thinks()) return false;
  const size_t last = prompt.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && prompt.substr(0, last + 1).ends_with(format.think_open);
}

std::vector<std::string> SpokenTokens(const ReplyFormat& format) {
  std::vector<std::string> names;
  if (format.thinks()) names = {format.think_open, format.think_close};
  const auto add = [&names](std::initializer_list<const char*> more) {
    names.insert(names.end(), more.begin(), more.end());
  };
  switch (format.calls) {
    case CallFormat::kGeneric:
      break;
    case CallFormat::kHermes:
      add({"<tool_call>", "</tool_call>"});
      break;
    case CallFormat::kLlama3:
      add({"<|python_tag|>"});
      break;
    case CallFormat::kMistral:
    case CallFormat::kMistralArgs:
      add({"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"});
      break;
    case CallFormat::kHarmony:
      add({"<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>", "<|call|>",
           "<|return|>"});
      break;
  }
  return names;
}

}  // namespace thermocline
