// gpt-oss's messages: a header with a channel, then a body.
#include <algorithm>
#include <iterator>
#include <utility>

#include "runtime/reply/reply_parser.h"

namespace thermocline {
namespace {

constexpr size_t kMaxHeaderBytes = 2000;
constexpr std::string_view kHeaderSpaces = " \t\r\n";
constexpr std::string_view kHarmonyEnds[] = {"<|end|>", "<|return|>", "<|call|>", "<|start|>",
                                             "<|channel|>"};

}  // namespace

// "<|channel|>commentary to=functions.f <|constrain|>json<|message|>", or " to=functions.f" first.
bool ReplyParser::StepHeader(bool at_end) {
  if (pending_.empty()) return false;
  constexpr std::string_view kMessage = "<|message|>";
  const size_t begin = std::min(pending_.find_first_not_of(kHeaderSpaces), pending_.size());
  const std::string_view text = std::string_view(pending_).substr(begin);
  bool may_be_header = false;
  for (const std::string_view mark : {"<|channel|>", "<|start|>", "to=", "assistant"}) {
    may_be_header |= text.starts_with(mark) || (!at_end && mark.starts_with(text));
  }
  if (!may_be_header) {
    state_ = State::kFinal;
    return true;
  }
  const size_t end = pending_.find(kMessage);
  if (end >= kMaxHeaderBytes) {
    if (!at_end && pending_.size() < kMaxHeaderBytes + kMessage.size()) return false;
    if (at_end && pending_.size() < kMaxHeaderBytes && text.starts_with("<|")) {
      pending_.clear();  // a header without its message
      return false;
    }
    state_ = State::kFinal;  // text that begins like one, and no header is so long
    return true;
  }
  const std::string header = pending_.substr(0, end);
  pending_.erase(0, end + kMessage.size());
  const auto word_behind = [&header](std::string_view mark) {
    const size_t at = header.find(mark);
    if (at == std::string::npos) return std::string();
    const size_t first = at + mark.size();
    return header.substr(first, header.find_first_of(" <\n", first) - first);
  };
  const std::string recipient = word_behind("to=");
  constexpr std::string_view kFunctions = "functions.";
  if (options_.calls && recipient.starts_with(kFunctions)) {
    BeginCall(recipient.substr(kFunctions.size()), "");
    state_ = State::kArguments;
  } else {
    const bool analysis = word_behind("<|channel|>") == "analysis";
    state_ = analysis && options_.reasoning ? State::kAnalysis : State::kFinal;
  }
  space_.clear();
  return true;
}

bool ReplyParser::StepBody(bool at_end) {
  if (pending_.empty()) return false;
  const int mark = TakeUntil({std::begin(kHarmonyEnds), std::end(kHarmonyEnds)}, at_end,
                             [this](std::string_view text) {
                               if (state_ == State::kAnalysis) return PutReasoning(text);
                               if (state_ == State::kArguments) return PutArguments(text);
                               PutContent(text);
                             });
  if (mark < 0) {
    if (at_end && state_ == State::kFinal) delta_.content += std::exchange(space_, {});
    return false;
  }
  space_.clear();
  trims_ = false;
  if (mark >= 3) pending_.insert(0, kHarmonyEnds[mark]);  // the next one begins
  state_ = State::kBetween;
  return true;
}

bool ReplyParser::StepBetween(bool at_end) {
  SkipSpace();
  if (pending_.empty()) return false;
  constexpr std::string_view kStart = "<|start|>";
  const std::optional<bool> started = TakeMark(kStart, at_end);
  if (!started) return false;
  state_ = State::kHeader;
  return true;
}

}  // namespace thermocline
