// The parts of replies that are calls of tools.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "runtime/reply/reply_parser.h"

namespace thermocline {
namespace {

constexpr size_t kMaxCallNameBytes = 200;
constexpr std::string_view kCallSpaces = " \t\r\n";
constexpr std::string_view kCallName = "[ARGS]";

std::string RandomId(size_t n) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::random_device random;
  std::string id;
  for (size_t i = 0; i < n; ++i) id += kLetters[random() % kLetters.size()];
  return id;
}

}  // namespace

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
  const size_t begin = pending_.find_first_not_of(kCallSpaces);
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
  if (format_.calls == CallFormat::kLlama3) return BeginCode();
  if (pending_[begin] == '[') {
    raw_ += pending_.substr(0, begin + 1);
    pending_.erase(0, begin + 1);
    in_list_ = true;
    state_ = State::kCall;
    return true;
  }
  return StepNamedCall(begin, at_end);
}

// A program: the call of a tool that runs such, if there is one.
bool ReplyParser::BeginCode() {
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

// f[ARGS]{...} from `begin` on.
bool ReplyParser::StepNamedCall(size_t begin, bool at_end) {
  // No later than this the arguments begin, however much of the text is there already.
  const auto within = [&](size_t at) { return at < begin + kMaxCallNameBytes; };
  const bool all_there = at_end || !within(pending_.size());
  const size_t end = pending_.find_first_of("{[", begin);
  const size_t object = pending_.find('{', begin);
  if (!within(object)) {
    if (!all_there) return false;
    GiveUpCall();
    return !pending_.empty();
  }
  // [CALL_ID] and [ARGS] may stand between the name and the arguments.
  std::string name = pending_.substr(begin, end - begin);
  name.erase(name.find_last_not_of(kCallSpaces) + 1);
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

}  // namespace thermocline
