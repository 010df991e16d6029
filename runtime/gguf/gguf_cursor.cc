#include "runtime/gguf/gguf_cursor.h"

#include <fmt/format.h>

#include "runtime/core/error.h"

namespace thermocline {

std::string GgufCursor::ReadString(uint64_t max_bytes) {
  const auto n_bytes = read<uint64_t>();
  if (n_bytes > max_bytes) {
    Fail("a text is too long", fmt::format("at most {} bytes", max_bytes),
         fmt::format("{}", n_bytes));
  }
  const auto text = take(n_bytes);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

void GgufCursor::Fail(const std::string& what, std::string expected, std::string found,
                      std::string hint) const {
  throw Error({.path = path_,
               .what = part_.empty() ? what : fmt::format("{}: {}", context(), what),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

void GgufCursor::FailTruncated(uint64_t n_bytes) const {
  throw Error({.path = path_,
               .what = fmt::format("the file ends inside {}", context()),
               .expected = fmt::format("{} more bytes at offset {}", n_bytes, position_),
               .found = fmt::format("{}", remaining()),
               .hint = kDamagedHint});
}

std::string GgufCursor::context() const {
  if (name_.empty()) return std::string(part_);
  return fmt::format("{} '{}'", part_, Printable(std::string(name_)));
}

}  // namespace thermocline
