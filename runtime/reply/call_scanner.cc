#include "runtime/reply/call_scanner.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace thermocline {
namespace {

constexpr size_t kMaxKeyBytes = 200;
constexpr size_t kMaxNameBytes = 400;

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Returns the text that a JSON string stands for, or nothing where it is none.
std::string Unquoted(const std::string& json) {
  const auto value = nlohmann::json::parse(json, nullptr, false);
  return value.is_string() ? value.get<std::string>() : "";
}

bool IsArguments(const std::string& key) { return key == "arguments" || key == "parameters"; }

}  // namespace

JsonValueScanner::Status JsonValueScanner::Feed(char c) {
  if (kind_ == 0) {
    if (IsSpace(c)) return Status::kMore;
    if (c == ',' || c == '}' || c == ']' || c == ':') return Status::kBroken;
    kind_ = c;
    if (c == '{' || c == '[') depth_ = 1;
    in_text_ = c == '"';
    return Status::kMore;
  }
  if (in_text_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_text_ = false;
      if (depth_ == 0) return Status::kEnd;
    }
    return Status::kMore;
  }
  if (depth_ == 0) {  // a number or a word
    return IsSpace(c) || c == ',' || c == '}' || c == ']' ? Status::kBehindEnd : Status::kMore;
  }
  if (c == '"') {
    in_text_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if ((c == '}' || c == ']') && --depth_ == 0) {
    return Status::kEnd;
  }
  return Status::kMore;
}

std::string CallScanner::TakeArguments() { return std::exchange(arguments_, {}); }

CallScanner::Status CallScanner::Feed(char c) {
  state_ = Next(c);
  if (state_ == State::kDone) return Status::kDone;
  return state_ == State::kBroken ? Status::kBroken : Status::kMore;
}

CallScanner::State CallScanner::Next(char c) {
  if (state_ == State::kInKey) {
    if (escaped_ || c == '\\') return State::kBroken;  // no key of a call has an escape
    if (c == '"') return State::kBeforeColon;
    key_ += c;
    return key_.size() > kMaxKeyBytes ? State::kBroken : State::kInKey;
  }
  if (state_ == State::kInValue) return InValue(c);
  if (IsSpace(c)) return state_;
  switch (state_) {
    case State::kBeforeObject:
      n_open_ = 1;
      return c == '{' ? State::kBeforeKey : State::kBroken;
    case State::kBeforeKey:
      if (c == '}' && !after_comma_) return EndObject();
      key_.clear();
      after_comma_ = false;
      return c == '"' ? State::kInKey : State::kBroken;
    case State::kBeforeColon:
      return c == ':' ? State::kBeforeValue : State::kBroken;
    case State::kBeforeValue:
      return BeginValue(c);
    case State::kAfterValue:
      if (c == '}') return EndObject();
      after_comma_ = true;
      return c == ',' ? State::kBeforeKey : State::kBroken;
    default:
      return State::kBroken;
  }
}

CallScanner::State CallScanner::EndObject() {
  if (--n_open_ > 0) return State::kAfterValue;
  return has_name_ ? State::kDone : State::kBroken;
}

CallScanner::State CallScanner::BeginValue(char c) {
  if ((key_ == "function" || key_ == "tool_call") && c == '{') {
    ++n_open_;
    return State::kBeforeKey;
  }
  scanner_ = JsonValueScanner();
  value_.clear();
  return InValue(c);
}

CallScanner::State CallScanner::InValue(char c) {
  const JsonValueScanner::Status status = scanner_.Feed(c);
  if (status == JsonValueScanner::Status::kBroken) return State::kBroken;
  const bool is_part = status != JsonValueScanner::Status::kBehindEnd;
  if (is_part && IsArguments(key_) && !scanner_.is_text()) {
    has_arguments_ = true;
    arguments_ += c;
  } else if (is_part &&
             (key_ == "name" || key_ == "id" || key_ == "function" || IsArguments(key_))) {
    value_ += c;
    if (!IsArguments(key_) && value_.size() > kMaxNameBytes) return State::kBroken;
  }
  if (status == JsonValueScanner::Status::kMore) return State::kInValue;
  EndValue();
  if (is_part) return State::kAfterValue;
  state_ = State::kAfterValue;
  return Next(c);
}

void CallScanner::EndValue() {
  if ((key_ == "name" || key_ == "function") && !has_name_ && scanner_.is_text()) {
    name_ = Unquoted(value_);
    has_name_ = !name_.empty();
  } else if (key_ == "id" && scanner_.is_text()) {
    id_ = Unquoted(value_);
  } else if (IsArguments(key_) && scanner_.is_text()) {  // JSON within a text
    has_arguments_ = true;
    arguments_ += Unquoted(value_);
  }
}

}  // namespace thermocline
