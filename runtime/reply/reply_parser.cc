#include "runtime/reply/reply_parser.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

namespace thermocline {
namespace {

constexpr size_t kMaxCallNameBytes = 200;
constexpr std::string_view kSpaces = " \t\r\n";
constexpr std::string_view kCallName = "[ARGS]";
constexpr std::string_view kPythonTag = "<|python_tag|>";
constexpr std::string_view kHarmonyEnds[] = {"<|end|>", "<|return|>", "<|call|>", "<|start|>",
                                             "<|channel|>"};

std::string RandomId(size_t n) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::random_device random;
  std::string id;
  for (size_t i = 0; i < n; ++i) id += kLetters[random() % kLetters.size()];
  return id;
}

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

void ReplyParser::PutArguments(std::string_view text) {
  if (text.empty()) return;
  const size_t index = n_calls_ - 1;
  if (delta_.calls.empty() || delta_.calls.back().index != index) {
    delta_.calls.push_back({.index = index});
  }
  delta_.calls.back().arguments += text;
}

void ReplyParser::BeginCall(const std::string& name, const std::string& id) {
  std::string given = id;
  if (given.empty()) {
    const bool mistral =
        format_.calls == CallFormat::kMistral || format_.calls == CallFormat::kMistralArgs;
    given = options_.new_id ? options_.new_id() : mistral ? RandomId(9) : "call_" + RandomId(24);
  }
  delta_.calls.push_back({.index = n_calls_++, .id = given, .name = name});
  begun_ = true;
  raw_.clear();
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

void ReplyParser::BeginObject() {
  scanner_ = CallScanner();
  value_ = JsonValueScanner();
  begun_ = false;
  state_ = State::kCall;
}

void ReplyParser::GiveUpCall() {
  state_ = State::kContent;
  const std::string raw = std::exchange(raw_, {});
  if (begun_) return;  // what was handed out of it stays
  trims_ = false;
  PutContent(raw);
  has_content_ = true;
}

bool ReplyParser::StepCall(bool at_end) {
  for (size_t i = 0; i < pending_.size(); ++i) {
    // An empty list is none of calls.
    if (!begun_) raw_ += pending_[i];
    const CallScanner::Status status = scanner_.Feed(pending_[i]);
    const bool known = scanner_.has_name() && (tagged() || IsTool(scanner_.name()));
    if (status == CallScanner::Status::kBroken || (scanner_.has_name() && !known)) {
      pending_.erase(0, i + 1);
      GiveUpCall();
      return true;
    }
    const bool done = status == CallScanner::Status::kDone;
    if (done && !tagged() && !scanner_.has_arguments()) {
      pending_.erase(0, i + 1);
      GiveUpCall();
      return true;
    }
    if (!begun_ && known && (scanner_.has_arguments() || done)) {
      BeginCall(scanner_.name(), scanner_.id());
    }
    if (begun_) PutArguments(scanner_.TakeArguments());
    if (!done) continue;
    if (!scanner_.has_arguments()) PutArguments("{}");
    pending_.erase(0, i + 1);
    state_ = State::kAfterCall;
    return true;
  }
  pending_.clear();
  if (at_end) GiveUpCall();
  return false;
}

// What follows [TOOL_CALLS] or <|python_tag|>.
bool ReplyParser::StepCallName(bool at_end) {
  const size_t begin = pending_.find_first_not_of(kSpaces);
  if (begin == std::string::npos) {
    if (at_end) {
      raw_ += std::exchange(pending_, {});
      GiveUpCall();
    }
    return at_end && !pending_.empty();
  }
  if (pending_[begin] == '{') {
    state_ = State::kCall;
    return true;
  }
  if (format_.calls == CallFormat::kLlama3) {
    for (const char* name : {"python", "ipython", "code_interpreter"}) {
      if (!IsTool(name)) continue;
      SkipSpace();
      BeginCall(name, "");
      PutArguments("{\"code\":\"");
      state_ = State::kCode;
      return true;
    }
    GiveUpCall();
    return true;
  }
  if (pending_[begin] == '[') {
    raw_ += pending_.substr(0, begin + 1);
    pending_.erase(0, begin + 1);
    in_list_ = true;
    state_ = State::kCall;
    return true;
  }
  const size_t end = pending_.find_first_of("{[", begin);
  if (end == std::string::npos) {
    if (!at_end && pending_.size() < kMaxCallNameBytes) return false;
    GiveUpCall();
    return !pending_.empty();
  }
  // [CALL_ID] and [ARGS] may stand between the name and the arguments.
  std::string name = pending_.substr(begin, end - begin);
  name.erase(name.find_last_not_of(kSpaces) + 1);
  const size_t object = pending_.find('{', end);
  if (object == std::string::npos) {
    if (!at_end && pending_.size() < 2 * kMaxCallNameBytes) return false;
    GiveUpCall();
    return !pending_.empty();
  }
  constexpr std::string_view kId = "[CALL_ID]";
  const std::string between = pending_.substr(end, object - end);
  std::string id;
  if (between.starts_with(kId)) {
    id = between.substr(kId.size(), between.find('[', 1) - kId.size());
  } else if (!between.empty() && !between.starts_with(kCallName)) {
    GiveUpCall();
    return true;
  }
  pending_.erase(0, object);
  BeginCall(name, id);
  state_ = State::kCallValue;
  return true;
}

bool ReplyParser::StepCallValue(bool /*at_end*/) {
  for (size_t i = 0; i < pending_.size(); ++i) {
    const JsonValueScanner::Status status = value_.Feed(pending_[i]);
    if (status == JsonValueScanner::Status::kMore) continue;
    PutArguments(std::string_view(pending_).substr(0, i + 1));
    pending_.erase(0, i + 1);
    state_ = State::kAfterCall;
    return true;
  }
  if (!pending_.empty()) PutArguments(std::exchange(pending_, {}));
  return false;
}

bool ReplyParser::StepAfterCall(bool at_end) {
  SkipSpace();
  if (pending_.empty()) return false;
  const bool separated = in_list_ ? pending_.front() == ',' : pending_.front() == ';';
  if (separated && (in_list_ || format_.calls == CallFormat::kLlama3)) {
    raw_ = pending_.substr(0, 1);
    pending_.erase(0, 1);
    BeginObject();
    return true;
  }
  if (in_list_ && pending_.front() == ']') {
    pending_.erase(0, 1);
    in_list_ = false;
    return true;
  }
  if (format_.calls == CallFormat::kHermes) {
    const std::optional<bool> closed = TakeMark("</tool_call>", at_end);
    if (!closed) return false;
    if (!*closed && pending_.front() == '{') {  // another one within the same mark
      BeginObject();
      return true;
    }
  }
  state_ = State::kContent;
  has_content_ = true;
  trims_ = true;
  return true;
}

bool ReplyParser::StepCode(bool at_end) {
  // A character at the end may not be whole yet; JSON's escapes take whole ones only.
  size_t n = pending_.size();
  if (!at_end) {
    while (n > 0 && (static_cast<unsigned char>(pending_[n - 1]) & 0xC0U) == 0x80U) --n;
    if (n > 0 && static_cast<unsigned char>(pending_[n - 1]) >= 0xC0U) --n;
    if (pending_.size() - n >= 4) n = pending_.size();
  }
  if (n > 0) {
    const std::string text = nlohmann::json(pending_.substr(0, n))
                                 .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    PutArguments(std::string_view(text).substr(1, text.size() - 2));
    pending_.erase(0, n);
  }
  if (at_end) {
    PutArguments("\"}");
    state_ = State::kContent;
  }
  return false;
}

// "<|channel|>commentary to=functions.f <|constrain|>json<|message|>", or " to=functions.f" first.
bool ReplyParser::StepHeader(bool at_end) {
  if (pending_.empty()) return false;
  constexpr std::string_view kMessage = "<|message|>";
  const size_t begin = std::min(pending_.find_first_not_of(kSpaces), pending_.size());
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
  if (end == std::string::npos) {
    if (!at_end && pending_.size() < 10 * kMaxCallNameBytes) return false;
    pending_.clear();  // a header without its message
    return false;
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
