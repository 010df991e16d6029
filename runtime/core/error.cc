#include "runtime/core/error.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace thermocline {
namespace {

// Returns the bytes of the UTF-8 character at `at`, or 0 where there is none or it is a control
// character (C1 ones too: terminals obey them).
size_t PrintableCharacter(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const uint32_t first = byte(at);
  if (first < 0x80) return first < 0x20 || first == 0x7f ? 0 : 1;
  const size_t n_bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  uint32_t code = first & (0x7fU >> n_bytes);
  for (size_t i = 1; i < n_bytes; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80U) return 0;
    code = (code << 6) | (byte(at + i) & 0x3fU);
  }
  const bool overlong = (n_bytes == 3 && code < 0x800) || (n_bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code < 0xa0 || code > 0x10ffff ? 0 : n_bytes;
}

std::string OneLine(const ErrorInfo& info) {
  std::string text;
  if (!info.path.empty()) text += Printable(info.path, 400) + ": ";
  text += info.what;
  if (!info.expected.empty()) text += ": expected " + info.expected;
  if (!info.found.empty()) text += (info.expected.empty() ? ": found " : ", found ") + info.found;
  if (!info.hint.empty()) text += "; " + info.hint;
  return Printable(text, 2000);
}

}  // namespace

Error::Error(const ErrorInfo& info) : std::runtime_error(OneLine(info)), info_(info) {}

std::string Printable(const std::string& text, size_t max_bytes) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (out.size() >= max_bytes) return out + "...";
    const size_t n_bytes = PrintableCharacter(text, i);
    if (n_bytes > 0) {
      out.append(text, i, n_bytes);
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i]));
    }
    i += n_bytes > 0 ? n_bytes : 1;
  }
  return out;
}

void CheckFailed(const char* file, int line, const char* condition) {
  // fmt::print is not used here, as it throws where stderr takes nothing.
  std::fprintf(stderr, "thermocline: internal error at %s:%d: CHECK(%s) failed\n", file, line,
               condition);
  std::abort();
}

}  // namespace thermocline
