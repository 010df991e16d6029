#include "runtime/core/size_text.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>

namespace thermocline {

std::optional<uint64_t> parse_size(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(value) || value < 0) return std::nullopt;
  std::string unit;
  for (const char* c = rest; c != end; ++c) {
    unit += static_cast<char>(std::toupper(static_cast<unsigned char>(*c)));
  }
  int power = -1;
  for (int i = 0; i < 5; ++i) {
    constexpr std::string_view kUnits = "BKMGT";
    const std::string letter(1, kUnits[static_cast<size_t>(i)]);
    if (unit == letter || (i > 0 && (unit == letter + "B" || unit == letter + "IB"))) power = i;
  }
  if (unit.empty()) power = 0;
  if (power < 0) return std::nullopt;
  const double n_bytes = std::ldexp(value, 10 * power);
  if (n_bytes >= 0x1p63) return std::nullopt;
  return static_cast<uint64_t>(n_bytes);
}

std::string format_bytes(uint64_t n_bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(n_bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", n_bytes);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, kUnits[unit]);
}

}  // namespace thermocline
