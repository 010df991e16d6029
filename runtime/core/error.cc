#include "runtime/core/error.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

namespace thermocline {
namespace {

std::string one_line(const ErrorInfo& info) {
  std::string text;
  if (!info.path.empty()) text += printable(info.path, 400) + ": ";
  text += info.what;
  if (!info.expected.empty()) text += ": expected " + info.expected;
  if (!info.found.empty()) text += (info.expected.empty() ? ": found " : ", found ") + info.found;
  if (!info.hint.empty()) text += "; " + info.hint;
  return printable(text, 2000);
}

}  // namespace

Error::Error(const ErrorInfo& info) : std::runtime_error(one_line(info)), info_(info) {}

std::string printable(const std::string& text, size_t max_bytes) {
  std::string out;
  for (const char c : text) {
    if (out.size() >= max_bytes) return out + "...";
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

void check_failed(const char* file, int line, const char* condition) {
  fmt::print(stderr, "thermocline: internal error at {}:{}: CHECK({}) failed\n", file, line,
             condition);
  std::abort();
}

}  // namespace thermocline
