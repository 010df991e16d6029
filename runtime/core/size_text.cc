#include "runtime/core/size_text.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <string>

#include "runtime/core/checked_math.h"

namespace thermocline {

namespace {

constexpr std::string_view kUnits = "BKMGT";

// Reads "", "K", "KB", "KiB", ... as the power of 1024; -1 for anything else.
int PowerOfUnit(std::string_view text) {
  if (text.empty()) return 0;
  std::string unit;
  for (const char c : text) unit += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const size_t power = kUnits.find(unit[0]);
  if (power == std::string_view::npos) return -1;
  const std::string rest = unit.substr(1);
  return rest.empty() || (power > 0 && (rest == "B" || rest == "IB")) ? static_cast<int>(power)
                                                                      : -1;
}

}  // namespace

std::optional<uint64_t> ParseSize(std::string_view text) {
  const char* end = text.data() + text.size();
  uint64_t whole = 0;
  const auto digits = std::from_chars(text.data(), end, whole);
  if (digits.ec != std::errc()) return std::nullopt;
  const char* rest = digits.ptr;
  double fraction = 0;
  if (rest != end && *rest == '.') {
    const auto decimals = std::from_chars(rest, end, fraction, std::chars_format::fixed);
    if (decimals.ec != std::errc() || decimals.ptr == rest + 1) return std::nullopt;
    rest = decimals.ptr;
  }
  const int power = PowerOfUnit({rest, static_cast<size_t>(end - rest)});
  uint64_t n_bytes = 0;
  if (power < 0 || !CheckedMul(whole, 1ULL << (10 * power), &n_bytes)) return std::nullopt;
  const auto part = static_cast<uint64_t>(std::ldexp(fraction, 10 * power));
  if (!CheckedAdd(n_bytes, part, &n_bytes) || n_bytes > INT64_MAX) return std::nullopt;
  return n_bytes;
}

std::string FormatBytes(uint64_t n_bytes) {
  constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(n_bytes);
  int unit = 0;
  while (value >= (unit == 0 ? 1024 : 1023.95) && unit < 4) {  // never "1024.0 KiB"
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", n_bytes);
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : 1, kNames[unit]);
}

}  // namespace thermocline
