#include "runtime/text/jinja/format_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

constexpr int64_t kMaxFieldWidth = 1 << 20;
constexpr int64_t kMaxPrecision = 100;

std::string GroupThousands(const std::string& digits, char separator) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string grouped;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) grouped += separator;
    grouped += digits[i];
  }
  return grouped + digits.substr(whole);
}

// Returns the digits of |value| without a sign.
std::string UnsignedDigits(const Value& value, char type, const FieldStyle& style) {
  if (std::string_view("dxXob").find(type) != std::string_view::npos) {
    const int64_t number = value.Is(Kind::kFloat)
                               ? static_cast<int64_t>(std::clamp(value.as_float(), -9.2e18, 9.2e18))
                               : value.as_int();
    const uint64_t size =
        number < 0 ? uint64_t{0} - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    const bool alternate = style.alternate;
    switch (type) {
      case 'x':
        return alternate ? fmt::format("0x{:x}", size) : fmt::format("{:x}", size);
      case 'X':
        return alternate ? fmt::format("0X{:X}", size) : fmt::format("{:X}", size);
      case 'o':
        return alternate ? fmt::format("0o{:o}", size) : fmt::format("{:o}", size);
      case 'b':
        return alternate ? fmt::format("0b{:b}", size) : fmt::format("{:b}", size);
      default:
        return fmt::format("{}", size);
    }
  }
  const double size = std::fabs(value.as_float());
  const int precision =
      style.precision < 0 ? 6 : static_cast<int>(std::min(style.precision, kMaxPrecision));
  switch (type) {
    case 'e':
      return fmt::format("{:.{}e}", size, precision);
    case 'E':
      return fmt::format("{:.{}E}", size, precision);
    case 'f':
    case 'F':
      return fmt::format("{:.{}f}", size, precision);
    case 'g':
      return fmt::format("{:.{}g}", size, std::max(precision, 1));
    case 'G':
      return fmt::format("{:.{}G}", size, std::max(precision, 1));
    case '%':
      return fmt::format("{:.{}f}%", size * 100, precision);
    default:
      Fail("a format that numbers do not have", {}, fmt::format("'{}'", Printable({type})));
  }
}

// Reads the parts of "{:*>+8.2f}" behind the colon, and returns its type, or '\0'.
char ParseFieldStyle(const std::string& text, FieldStyle* style) {
  const std::vector<size_t> offsets = CharacterOffsets(text);
  size_t at = 0;
  const auto peek = [&](size_t i) { return i < text.size() ? text[i] : '\0'; };
  const auto is_alignment = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (offsets.size() > 1 && is_alignment(peek(offsets[1]))) {
    style->fill = text.substr(0, offsets[1]);
    at = offsets[1];
  }
  const char alignment = is_alignment(peek(at)) ? text[at++] : '\0';
  style->left = alignment == '<';
  style->center = alignment == '^';
  if (peek(at) == '+' || peek(at) == '-' || peek(at) == ' ') style->sign = text[at++];
  if (peek(at) == '#') style->alternate = text[at++] == '#';
  if (peek(at) == '0') {
    ++at;
    if (alignment == '\0') {
      style->zeros = true;
      style->fill = "0";
    }
  }
  if (alignment == '=') style->zeros = true;
  const auto read_number = [&](int64_t* number) {
    for (*number = 0; peek(at) >= '0' && peek(at) <= '9'; ++at) {
      *number = std::min(*number * 10 + (text[at] - '0'), kMaxFieldWidth + 1);
    }
  };
  read_number(&style->width);
  if (peek(at) == ',' || peek(at) == '_') style->grouping = text[at++];
  if (peek(at) == '.') {
    ++at;
    read_number(&style->precision);
  }
  // Right is what '>' asks for, also of a text.
  if (alignment == '>') style->zeros = false;
  const char type = peek(at);
  if (at + (type == '\0' ? 0 : 1) != text.size())
    Fail("a format that is not well-formed", {}, Printable(text));
  return type;
}

std::string FormatField(Runtime& runtime, const Value& value, const std::string& spec) {
  if (spec.empty()) return TextOf(runtime, value);
  FieldStyle style;
  const char type = ParseFieldStyle(spec, &style);
  const bool asks_right = spec.find('>') != std::string::npos;
  if (value.IsNumber() && !value.Is(Kind::kBool) && type != 's') {
    if (type == '\0' && value.Is(Kind::kFloat) && style.precision < 0) {
      const std::string text = TextOf(runtime, value);
      return FillField(runtime, style.sign == '+' && text[0] != '-' ? "+" + text : text, style,
                       true);
    }
    const char number_type = type != '\0' ? type : value.Is(Kind::kFloat) ? 'g' : 'd';
    return FillField(runtime, NumberField(value, number_type, style), style, true);
  }
  if (type != '\0' && type != 's') {
    return FillField(runtime, NumberField(value, type, style), style, true);
  }
  std::string text = TextOf(runtime, value);
  if (style.precision >= 0) {
    const std::vector<size_t> offsets = CharacterOffsets(text);
    text.resize(offsets[std::min(offsets.size() - 1, static_cast<size_t>(style.precision))]);
  }
  style.zeros = false;
  return FillField(runtime, text, style, asks_right);
}

// Finds the values of a format's fields.
class FieldArguments {
 public:
  FieldArguments(Runtime& runtime, const Arguments& arguments)
      : runtime_(runtime), arguments_(arguments) {}

  // `name`: what stands in the braces before ':' and '!', as in "0", "", "user.name", "items[0]".
  Value Find(const std::string& name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = FindFirst(name.substr(0, end));
    size_t at = end;
    while (at < name.size()) {
      const bool is_item = name[at] == '[';
      const size_t close = is_item ? name.find(']', at) : name.find_first_of(".[", at + 1);
      const size_t part_end = std::min(close, name.size());
      const std::string part = name.substr(at + 1, part_end - at - 1);
      value = is_item ? Item(value, part) : GetAttribute(runtime_, value, part);
      at = part_end + (is_item ? 1 : 0);
    }
    return value;
  }

 private:
  static bool IsNumeral(const std::string& text) {
    return !text.empty() && text.size() < 10 &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  }

  Value Item(const Value& value, const std::string& part) {
    const Value key = IsNumeral(part) ? Value::Int(std::stol(part)) : runtime_.Text(part);
    return GetItem(runtime_, value, key);
  }

  Value FindFirst(const std::string& name) {
    if (name.empty() || IsNumeral(name)) {
      const size_t index = name.empty() ? next_++ : static_cast<size_t>(std::stol(name));
      if (index < arguments_.positional.size()) return arguments_.positional[index];
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    Fail("a format with a field that has no value", {}, fmt::format("'{{{}}}'", Printable(name)));
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  size_t next_ = 0;
};

}  // namespace

std::string NumberField(const Value& value, char type, const FieldStyle& style) {
  RequireDefined(value);
  if (!value.IsNumber()) Fail("a format of numbers", "a number", TypeName(value));
  std::string digits = UnsignedDigits(value, type, style);
  if (style.grouping != '\0') digits = GroupThousands(digits, style.grouping);
  const bool negative =
      value.Is(Kind::kFloat) ? std::signbit(value.as_float()) : value.as_int() < 0;
  if (negative) return "-" + digits;
  return style.sign == '-' ? digits : style.sign + digits;
}

std::string FillField(Runtime& runtime, const std::string& text, const FieldStyle& style,
                      bool right) {
  if (style.width > kMaxFieldWidth) {
    Fail("a field that is too wide", fmt::format("at most {}", kMaxFieldWidth),
         fmt::format("{}", style.width));
  }
  const auto n_characters = static_cast<int64_t>(CountCharacters(text));
  if (style.width <= n_characters) return text;
  const int64_t n_missing = style.width - n_characters;
  runtime.budget().SpendBytes(static_cast<uint64_t>(n_missing));
  const auto fill = [&](int64_t count) {
    std::string filling;
    for (int64_t i = 0; i < count; ++i) filling += style.fill;
    return filling;
  };
  if (style.center) return fill(n_missing / 2) + text + fill(n_missing - n_missing / 2);
  if (style.zeros && !style.left) {
    const size_t sign =
        !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
    return text.substr(0, sign) + fill(n_missing) + text.substr(sign);
  }
  return style.left || !right ? text + fill(n_missing) : fill(n_missing) + text;
}

Value FormatBraces(Runtime& runtime, const std::string& format, const Arguments& arguments) {
  FieldArguments fields(runtime, arguments);
  std::string out;
  size_t at = 0;
  while (at < format.size()) {
    const char c = format[at];
    if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
      out += c;
      at += 2;
      continue;
    }
    if (c == '}') Fail("a format with a '}' that closes nothing");
    if (c != '{') {
      out += c;
      ++at;
      continue;
    }
    const size_t end = format.find('}', at);
    if (end == std::string::npos) Fail("a format with a '{' that is not closed");
    std::string field = format.substr(at + 1, end - at - 1);
    const size_t colon = std::min(field.find(':'), field.size());
    const std::string spec = colon < field.size() ? field.substr(colon + 1) : "";
    field.resize(colon);
    const size_t mark = std::min(field.find('!'), field.size());
    const std::string conversion = field.substr(mark);
    field.resize(mark);
    Value value = fields.Find(field);
    if (conversion == "!r") value = runtime.Text(ReprOf(runtime, value));
    if (conversion == "!s") value = runtime.Text(TextOf(runtime, value));
    out += FormatField(runtime, value, spec);
    runtime.budget().CheckSize(out.size());
    at = end + 1;
  }
  return runtime.Text(std::move(out));
}

}  // namespace thermocline::jinja
