// Filters whose result is a number.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

// Reads a whole text as Python's float() does, but for "infinity".
std::optional<double> ReadFloat(std::string_view text) {
  std::string digits(Strip(text, Side::kBoth));
  if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
  double number = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || digits.empty()) return std::nullopt;
  return number;
}

std::optional<int64_t> ReadInteger(std::string_view text, int base) {
  std::string digits(Strip(text, Side::kBoth));
  if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
  const bool has_prefix =
      digits.size() > 2 && digits[0] == '0' &&
      ((base == 16 && (digits[1] | 0x20) == 'x') || (base == 8 && (digits[1] | 0x20) == 'o') ||
       (base == 2 && (digits[1] | 0x20) == 'b'));
  if (has_prefix) digits.erase(0, 2);
  int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number, base);
  if (parsed.ec != std::errc() || parsed.ptr != end || digits.empty()) return std::nullopt;
  return number;
}

std::optional<int64_t> Truncated(double number) {
  if (!std::isfinite(number) || std::fabs(number) >= 9.2e18) return std::nullopt;
  return static_cast<int64_t>(number);
}

Value IntFilter(Runtime&, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "int", {"default", "base"});
  const Value otherwise = bound[0].Is(Kind::kUndefined) ? Value::Int(0) : bound[0];
  const int64_t base = bound[1].Is(Kind::kUndefined) ? 10 : RequireInteger(bound[1], "a base");
  if (base < 2 || base > 36) Fail("a base of numbers", "2 to 36", fmt::format("{}", base));
  RequireDefined(input);
  std::optional<int64_t> number;
  if (input.IsInteger()) number = input.as_int();
  if (input.Is(Kind::kFloat)) number = Truncated(input.as_float());
  if (input.Is(Kind::kString)) {
    number = ReadInteger(input.as_string(), static_cast<int>(base));
    const std::optional<double> real = number ? std::nullopt : ReadFloat(input.as_string());
    if (real.has_value()) number = Truncated(*real);
  }
  return number.has_value() ? Value::Int(*number) : otherwise;
}

Value FloatFilter(Runtime&, const Value& input, const Arguments& arguments) {
  const Value otherwise = Bind(arguments, "float", {"default"})[0];
  RequireDefined(input);
  std::optional<double> number;
  if (input.IsNumber()) number = input.as_float();
  if (input.Is(Kind::kString)) number = ReadFloat(input.as_string());
  if (number.has_value()) return Value::Float(*number);
  return otherwise.Is(Kind::kUndefined) ? Value::Float(0) : otherwise;
}

Value AbsFilter(Runtime&, const Value& input, const Arguments&) {
  RequireDefined(input);
  if (!input.IsNumber()) Fail("abs takes a number", {}, TypeName(input));
  if (input.Is(Kind::kFloat)) return Value::Float(std::fabs(input.as_float()));
  return input.as_int() < 0 ? Negate(input) : Value::Int(input.as_int());
}

Value RoundFilter(Runtime&, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "round", {"precision", "method"});
  RequireDefined(input);
  if (!input.IsNumber()) Fail("round takes a number", {}, TypeName(input));
  const int64_t precision =
      bound[0].Is(Kind::kUndefined) ? 0 : RequireInteger(bound[0], "the precision of round");
  if (precision < -300 || precision > 300) Fail("a precision of round", "-300 to 300");
  const std::string method =
      bound[1].Is(Kind::kUndefined) ? "common" : RequireString(bound[1], "the method of round");
  const double number = input.as_float();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value::Float(std::ceil(number * scale) / scale);
  if (method == "floor") return Value::Float(std::floor(number * scale) / scale);
  if (method != "common") Fail("a method of round", "common, ceil or floor", Printable(method));
  if (precision < 0 && input.IsInteger()) {
    const double rounded = std::nearbyint(number * scale) / scale;
    return Value::Int(static_cast<int64_t>(rounded));
  }
  if (input.IsInteger()) return Value::Int(input.as_int());
  if (precision < 0) return Value::Float(std::nearbyint(number * scale) / scale);
  // Decimal digits of the exact value, so that 2.675 becomes 2.67 as in Python.
  const std::string digits = fmt::format("{:.{}f}", number, precision);
  return Value::Float(std::strtod(digits.c_str(), nullptr));
}

Value LengthFilter(Runtime& runtime, const Value& input, const Arguments&) {
  return Value::Int(Length(runtime, input));
}

constexpr FunctionRow kNumberFilters[] = {
    {"int", IntFilter},     {"float", FloatFilter},   {"abs", AbsFilter},
    {"round", RoundFilter}, {"length", LengthFilter}, {"count", LengthFilter},
};

}  // namespace

Function FindNumberFilter(const std::string& name) { return FindRow(kNumberFilters, name); }

}  // namespace thermocline::jinja
