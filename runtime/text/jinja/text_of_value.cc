#include "runtime/text/jinja/text_of_value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "runtime/text/jinja/unicode.h"
#include "runtime/text/utf8.h"

namespace thermocline::jinja {
namespace {

void AppendEscapedForRepr(uint32_t codepoint, std::string* out) {
  if (codepoint == '\n') {
    *out += "\\n";
  } else if (codepoint == '\r') {
    *out += "\\r";
  } else if (codepoint == '\t') {
    *out += "\\t";
  } else if (codepoint < 0x100) {
    *out += fmt::format("\\x{:02x}", codepoint);
  } else if (codepoint < 0x10000) {
    *out += fmt::format("\\u{:04x}", codepoint);
  } else {
    *out += fmt::format("\\U{:08x}", codepoint);
  }
}

void AppendStringRepr(std::string_view text, std::string* out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  *out += quote;
  while (!text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    if (text[0] == quote || text[0] == '\\') {
      *out += '\\';
      *out += text[0];
    } else if (first.status != Utf8Status::kValid || IsPrintable(first.codepoint)) {
      *out += text.substr(0, first.n_bytes);
    } else {
      AppendEscapedForRepr(first.codepoint, out);
    }
    text.remove_prefix(first.n_bytes);
  }
  *out += quote;
}

class ReprWriter {
 public:
  explicit ReprWriter(Runtime& runtime) : runtime_(runtime) {}

  void Write(const Value& value) {
    const DepthGuard guard(runtime_.budget());
    const size_t begin = out_.size();
    switch (value.kind()) {
      case Kind::kUndefined:
        out_ += "Undefined";
        break;
      case Kind::kNone:
        out_ += "None";
        break;
      case Kind::kBool:
        out_ += value.as_bool() ? "True" : "False";
        break;
      case Kind::kInt:
        out_ += fmt::format("{}", value.as_int());
        break;
      case Kind::kFloat:
        out_ += FloatText(value.as_float());
        break;
      case Kind::kString:
        AppendStringRepr(value.as_string(), &out_);
        break;
      case Kind::kList:
        return WriteList(value.as_list());
      case Kind::kDict:
        return WriteDict(value.as_dict());
      case Kind::kObject:
        out_ += fmt::format("<{}>", value.as_object().type_name());
        break;
    }
    runtime_.budget().SpendCharacters(out_.size() - begin);
    runtime_.budget().CheckSize(out_.size());
  }

  std::string Take() { return std::move(out_); }

 private:
  void WriteList(const List& list) {
    out_ += list.is_tuple ? '(' : '[';
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_ += ", ";
      Write(list.items[i]);
    }
    if (list.is_tuple && list.items.size() == 1) out_ += ',';
    out_ += list.is_tuple ? ')' : ']';
    runtime_.budget().Spend(1);
  }

  void WriteDict(const Dict& dict) {
    out_ += '{';
    bool first = true;
    for (const auto& [key, item] : dict.entries()) {
      if (!std::exchange(first, false)) out_ += ", ";
      Write(key);
      out_ += ": ";
      Write(item);
    }
    out_ += '}';
    runtime_.budget().Spend(1);
  }

  Runtime& runtime_;
  std::string out_;
};

}  // namespace

std::string FloatText(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), number, std::chars_format::scientific).ptr;
  const std::string_view scientific(buffer, static_cast<size_t>(end - buffer));
  const size_t e = scientific.find('e');
  int exponent = 0;
  const size_t sign = scientific[e + 1] == '+' ? 1 : 0;
  std::from_chars(scientific.data() + e + 1 + sign, scientific.data() + scientific.size(),
                  exponent);
  // Python writes an exponent below 1e-4 and from 1e16 on.
  if (exponent < -4 || exponent >= 16) return std::string(scientific);
  std::string text = number < 0 || std::signbit(number) ? "-" : "";
  std::string digits;
  for (const char c : scientific.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  if (exponent < 0) {
    return text + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  }
  const auto n_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < n_whole) digits.resize(n_whole, '0');
  text += digits.substr(0, n_whole) + ".";
  return text + (digits.size() > n_whole ? digits.substr(n_whole) : "0");
}

std::string TextOf(Runtime& runtime, const Value& value) {
  if (value.Is(Kind::kString)) {
    runtime.budget().SpendBytes(value.as_string().size());
    return value.as_string();
  }
  return value.Is(Kind::kUndefined) ? "" : ReprOf(runtime, value);
}

std::string ReprOf(Runtime& runtime, const Value& value) {
  ReprWriter writer(runtime);
  writer.Write(value);
  return writer.Take();
}

}  // namespace thermocline::jinja
