#include "runtime/reply/reply_parser.h"

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";
constexpr std::string_view kPythonTag = "<|python_tag|>";

// How many bytes at the text's end may be the beginning of a mark.
size_t PartialMark(std::string_view text, std::string_view mark) {
  for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n) {
    if (text.ends_with(mark.substr(0, n))) return n;
  }
  return 0;
}

std::string_view CallMark(CallFormat format) {
  switch (format) {
    case CallFormat::kHermes:
      return "<tool_call>";
    case CallFormat::kLlama3:
      return kPythonTag;
    case CallFormat::kMistral:
    case CallFormat::kMistralArgs:
      return "[TOOL_CALLS]";
    default:
      return "";
  }
}

}  // namespace

ReplyParser::ReplyParser(ReplyFormat format, ReplyParserOptions options)
    : format_(std::move(format)), options_(std::move(options)) {
  if (format_.calls == CallFormat::kHarmony) {
    state_ = State::kHeader;
  } else if (options_.reasoning && format_.starts_thinking) {
    state_ = State::kReasoning;
    trims_ = true;
  }
}

ReplyDelta ReplyParser::Push(std::string_view text) {
  pending_ += text;
  while (Step(false)) {
  }
  return std::exchange(delta_, {});
}

ReplyDelta ReplyParser::Finish() {
  while (Step(true)) {
  }
  if (!space_.empty() && (state_ == State::kContent || state_ == State::kStart)) {
    delta_.content += std::exchange(space_, {});
  }
  return std::exchange(delta_, {});
}

bool ReplyParser::Step(bool at_end) {
  switch (state_) {
    case State::kStart:
      return StepStart(at_end);
    case State::kReasoning:
      return StepReasoning(at_end);
    case State::kContent:
      return StepContent(at_end);
    case State::kCall:
      return StepCall(at_end);
    case State::kCallName:
      return StepCallName(at_end);
    case State::kCallValue:
      return StepCallValue(at_end);
    case State::kAfterCall:
      return StepAfterCall(at_end);
    case State::kCode:
      return StepCode(at_end);
    case State::kHeader:
      return StepHeader(at_end);
    case State::kBetween:
      return StepBetween(at_end);
    default:
      return StepBody(at_end);
  }
}

std::optional<bool> ReplyParser::TakeMark(std::string_view mark, bool at_end) {
  if (pending_.starts_with(mark)) {
    pending_.erase(0, mark.size());
    return true;
  }
  if (!at_end && mark.starts_with(pending_)) return std::nullopt;
  return false;
}

int ReplyParser::TakeUntil(const std::vector<std::string_view>& marks, bool at_end,
                           const std::function<void(std::string_view)>& put) {
  size_t first = std::string::npos;
  int which = -1;
  for (size_t i = 0; i < marks.size(); ++i) {
    const size_t at = pending_.find(marks[i]);
    if (at < first) {
      first = at;
      which = static_cast<int>(i);
    }
  }
  size_t n_sure = first;
  if (which < 0) {
    size_t held = 0;
    for (const std::string_view mark : marks) held = std::max(held, PartialMark(pending_, mark));
    n_sure = pending_.size() - (at_end ? 0 : held);
  }
  if (n_sure > 0) put(std::string_view(pending_).substr(0, n_sure));
  pending_.erase(0, n_sure + (which < 0 ? 0 : marks[static_cast<size_t>(which)].size()));
  return which;
}

void ReplyParser::SkipSpace() {
  pending_.erase(0, std::min(pending_.find_first_not_of(kSpaces), pending_.size()));
}

// White space at the end waits: a mark may follow, before which it is nobody's.
void ReplyParser::PutContent(std::string_view text) {
  if (trims_) text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  if (text.empty()) return;
  trims_ = false;
  const size_t last = text.find_last_not_of(kSpaces);
  if (last == std::string_view::npos) {
    space_ += text;
    return;
  }
  delta_.content += std::exchange(space_, {});
  delta_.content += text.substr(0, last + 1);
  has_content_ = true;
  space_ = text.substr(last + 1);
}

void ReplyParser::PutReasoning(std::string_view text) {
  if (trims_) text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  if (text.empty()) return;
  trims_ = false;
  const size_t last = text.find_last_not_of(kSpaces);
  if (last == std::string_view::npos) {
    space_ += text;
    return;
  }
  delta_.reasoning += std::exchange(space_, {});
  delta_.reasoning += text.substr(0, last + 1);
  space_ = text.substr(last + 1);
}

bool ReplyParser::IsTool(const std::string& name) const {
  return std::find(options_.tools.begin(), options_.tools.end(), name) != options_.tools.end();
}

bool ReplyParser::StepStart(bool at_end) {
  const size_t begin = pending_.find_first_not_of(kSpaces);
  if (begin == std::string::npos && !at_end) return false;
  if (pending_.empty()) return false;
  if (options_.reasoning && format_.thinks() && begin != std::string::npos) {
    const std::string before = pending_.substr(0, begin);
    pending_.erase(0, begin);
    const std::optional<bool> thinks = TakeMark(format_.think_open, at_end);
    if (thinks.value_or(false)) {
      state_ = State::kReasoning;
      trims_ = true;
      return true;
    }
    pending_.insert(0, before);
    if (!thinks) return false;
  }
  state_ = State::kContent;
  return true;
}

bool ReplyParser::StepReasoning(bool at_end) {
  if (pending_.empty()) return false;
  const int mark = TakeUntil({format_.think_close}, at_end,
                             [this](std::string_view text) { PutReasoning(text); });
  if (mark < 0) return false;
  space_.clear();
  state_ = State::kContent;
  trims_ = true;
  return true;
}

bool ReplyParser::StepContent(bool at_end) {
  if (pending_.empty()) return false;
  const std::string_view mark = CallMark(format_.calls);
  const bool marked = options_.calls && !mark.empty();
  // Without a mark a call is the reply's first thing.
  const bool bare = options_.calls && !has_content_ && !options_.tools.empty() &&
                    (format_.calls == CallFormat::kLlama3 || format_.calls == CallFormat::kGeneric);
  if (bare) {
    const size_t begin = pending_.find_first_not_of(kSpaces);
    if (begin == std::string::npos && !at_end) return false;
    const bool list = begin != std::string::npos && pending_[begin] == '[' &&
                      format_.calls == CallFormat::kGeneric;
    if (begin != std::string::npos && (pending_[begin] == '{' || list)) {
      raw_ = pending_.substr(0, begin);
      pending_.erase(0, begin);
      tagged_ = false;
      in_list_ = list;
      if (list) {
        raw_ += '[';
        pending_.erase(0, 1);
      }
      BeginObject();
      return true;
    }
  }
  if (!marked) {
    PutContent(std::exchange(pending_, {}));
    return false;
  }
  const int found = TakeUntil({mark}, at_end, [this](std::string_view text) { PutContent(text); });
  if (found < 0) return false;
  raw_ = space_ + std::string(mark);
  space_.clear();
  tagged_ = true;
  in_list_ = false;
  BeginObject();
  if (format_.calls == CallFormat::kMistral || format_.calls == CallFormat::kMistralArgs ||
      format_.calls == CallFormat::kLlama3) {
    state_ = State::kCallName;  // a list, an object, a name or a program: see there
  }
  return true;
}

void ParsedReply::Add(const ReplyDelta& delta) {
  content += delta.content;
  reasoning += delta.reasoning;
  for (const ToolCallDelta& call : delta.calls) {
    if (call.index >= calls.size()) calls.resize(call.index + 1);
    ParsedCall& into = calls[call.index];
    into.id += call.id;
    into.name += call.name;
    into.arguments += call.arguments;
  }
}

ParsedReply ParseReply(const ReplyFormat& format, const ReplyParserOptions& options,
                       std::string_view text) {
  ReplyParser parser(format, options);
  ParsedReply reply;
  reply.Add(parser.Push(text));
  reply.Add(parser.Finish());
  return reply;
}

}  // namespace thermocline
