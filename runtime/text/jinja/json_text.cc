#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"
#include "runtime/text/utf8.h"

namespace thermocline::jinja {
namespace {

void AppendUtf16Escape(uint32_t codepoint, std::string* out) {
  if (codepoint < 0x10000) {
    *out += fmt::format("\\u{:04x}", codepoint);
    return;
  }
  const uint32_t rest = codepoint - 0x10000;
  *out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
}

void AppendJsonString(std::string_view text, bool ascii_only, std::string* out) {
  constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t";
  constexpr std::string_view kLetters = "\"\\bfnrt";
  *out += '"';
  while (!text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    const size_t escape = kEscaped.find(text[0]);
    if (escape != std::string_view::npos) {
      *out += '\\';
      *out += kLetters[escape];
    } else if (static_cast<uint8_t>(text[0]) < 0x20 ||
               (ascii_only && first.status == Utf8Status::kValid && first.codepoint >= 0x7F)) {
      AppendUtf16Escape(first.codepoint, out);
    } else {
      *out += text.substr(0, first.n_bytes);
    }
    text.remove_prefix(first.n_bytes);
  }
  *out += '"';
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void Write(const Value& value) {
    const DepthGuard guard(runtime_.budget());
    const size_t begin = out_.size();
    switch (value.kind()) {
      case Kind::kString:
        runtime_.budget().SpendCharacters(value.as_string().size());
        AppendJsonString(value.as_string(), style_.ascii_only, &out_);
        break;
      case Kind::kList:
        WriteList(value.as_list());
        break;
      case Kind::kDict:
        WriteDict(value.as_dict());
        break;
      case Kind::kUndefined:
      case Kind::kObject:
        RequireDefined(value);
        Fail("a value that JSON has no text for", {}, TypeName(value));
      default:
        out_ += ScalarText(value);
    }
    runtime_.budget().SpendBytes(out_.size() - begin);
    runtime_.budget().CheckSize(out_.size());
  }

  std::string Take() { return std::move(out_); }

 private:
  static std::string ScalarText(const Value& value) {
    if (value.Is(Kind::kNone)) return "null";
    if (value.Is(Kind::kBool)) return value.as_bool() ? "true" : "false";
    if (value.Is(Kind::kInt)) return fmt::format("{}", value.as_int());
    const double number = value.as_float();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return FloatText(number);
  }

  void StartItem(bool first) {
    if (!first) out_ += style_.item_separator;
    BreakLine();
  }

  void BreakLine() {
    if (!style_.indent.has_value()) return;
    out_ += '\n';
    for (int i = 0; i < level_; ++i) out_ += *style_.indent;
    runtime_.budget().CheckSize(out_.size());
  }

  void WriteList(const List& list) {
    if (list.items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < list.items.size(); ++i) {
      StartItem(i == 0);
      Write(list.items[i]);
    }
    --level_;
    BreakLine();
    out_ += ']';
  }

  void WriteDict(const Dict& dict) {
    if (dict.size() == 0) {
      out_ += "{}";
      return;
    }
    std::vector<Dict::Entry> entries = dict.entries();
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto& left, const auto& right) {
        return IsLess(runtime_, left.first, right.first);
      });
    }
    out_ += '{';
    ++level_;
    bool first = true;
    for (const auto& [key, item] : entries) {
      StartItem(std::exchange(first, false));
      WriteKey(key);
      out_ += style_.key_separator;
      Write(item);
    }
    --level_;
    BreakLine();
    out_ += '}';
  }

  void WriteKey(const Value& key) {
    if (key.Is(Kind::kList)) Fail("a key that JSON has no text for", {}, TypeName(key));
    const std::string text = key.Is(Kind::kString) ? key.as_string() : ScalarText(key);
    AppendJsonString(text, style_.ascii_only, &out_);
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string JsonOf(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.Write(value);
  return writer.Take();
}

}  // namespace thermocline::jinja
