#include "tools/verbs/number_option.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

template <typename T>
std::optional<T> ParseNumber(const std::string& text, const Bounds<T>& bounds) {
  T value{};
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  if constexpr (std::floating_point<T>) {
    if (!std::isfinite(value)) return std::nullopt;
  }
  if (bounds.above ? value <= bounds.least : value < bounds.least) return std::nullopt;
  if (bounds.below ? value >= bounds.most : value > bounds.most) return std::nullopt;
  return value;
}

// Says "a whole number from 0 to 1024", "a number above 0 and below 1", "a number from 0 up".
template <typename T>
std::string Allowed(const Bounds<T>& bounds) {
  if constexpr (!std::floating_point<T>) {
    return fmt::format("a whole number from {} to {}", bounds.least, bounds.most);
  } else {
    const std::string least =
        fmt::format("a number {} {:g}", bounds.above ? "above" : "from", bounds.least);
    if (bounds.most == std::numeric_limits<T>::max()) return least + (bounds.above ? "" : " up");
    const char* join = bounds.below ? "and below" : bounds.above ? "and at most" : "to";
    return fmt::format("{} {} {:g}", least, join, bounds.most);
  }
}

}  // namespace

template <typename T>
CLI::Option* AddNumberFunction(CLI::App& verb, const std::string& flags,
                               std::function<void(T)> take, Bounds<std::type_identity_t<T>> bounds,
                               const std::string& help) {
  const auto parse = [take = std::move(take), bounds](const CLI::results_t& values) {
    const auto number = ParseNumber<T>(values.back(), bounds);
    if (number) take(*number);
    return number.has_value();
  };
  const auto check = [bounds](const std::string& text) {
    return ParseNumber<T>(text, bounds)
               ? std::string()
               : fmt::format("expected {}, found '{}'", Allowed<T>(bounds), Printable(text));
  };
  return verb.add_option(flags, parse, help)
      ->type_name(std::floating_point<T> ? "X" : "N")
      ->check(CLI::Validator(check, ""));
}

template CLI::Option* AddNumberFunction(CLI::App&, const std::string&, std::function<void(int32_t)>,
                                        Bounds<int32_t>, const std::string&);
template CLI::Option* AddNumberFunction(CLI::App&, const std::string&, std::function<void(int64_t)>,
                                        Bounds<int64_t>, const std::string&);
template CLI::Option* AddNumberFunction(CLI::App&, const std::string&,
                                        std::function<void(uint64_t)>, Bounds<uint64_t>,
                                        const std::string&);
template CLI::Option* AddNumberFunction(CLI::App&, const std::string&, std::function<void(float)>,
                                        Bounds<float>, const std::string&);
template CLI::Option* AddNumberFunction(CLI::App&, const std::string&, std::function<void(double)>,
                                        Bounds<double>, const std::string&);

}  // namespace thermocline
