// Reads the JSON of a tool call while it is being written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline {

// Finds the end of one JSON value, character by character. It checks no more than it needs to.
class JsonValueScanner {
 public:
  enum class Status : uint8_t {
    kMore,
    kEnd,        // this character is the value's last
    kBehindEnd,  // the value ended before this character
    kBroken,     // no value begins so
  };
  Status Feed(char c);
  bool is_text() const { return kind_ == '"'; }

 private:
  char kind_ = 0;  // its first character; 0: before it
  int depth_ = 0;
  bool in_text_ = false;
  bool escaped_ = false;
};

// Reads an object {"name": ..., "arguments": {...}}: `parameters` are arguments, too, what a
// "function" or "tool_call" holds counts as if it stood outside, and other keys are passed over.
class CallScanner {
 public:
  enum class Status : uint8_t { kMore, kDone, kBroken };
  Status Feed(char c);

  bool has_name() const { return has_name_; }
  const std::string& name() const { return name_; }
  const std::string& id() const { return id_; }  // empty: none so far
  bool has_arguments() const { return has_arguments_; }
  // Returns what was read of the arguments since the last call.
  std::string TakeArguments();

 private:
  enum class State : uint8_t {
    kBeforeObject,
    kBeforeKey,
    kInKey,
    kBeforeColon,
    kBeforeValue,
    kInValue,
    kAfterValue,
    kDone,
    kBroken,
  };
  State Next(char c);
  State BeginValue(char c);
  State InValue(char c);
  State EndObject();
  void EndValue();

  State state_ = State::kBeforeObject;
  int n_open_ = 0;  // objects around this place
  bool after_comma_ = false;
  bool escaped_ = false;
  std::string key_;
  std::string value_;
  JsonValueScanner scanner_;
  bool has_name_ = false;
  bool has_arguments_ = false;
  std::string name_;
  std::string id_;
  std::string arguments_;  // not taken yet
};

}  // namespace thermocline
