// The hash that tells files and texts apart: FNV-1a with 64 bits
// (http://www.isthe.com/chongo/tech/comp/fnv/). It does not protect against those who mean to
// deceive.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace thermocline {

class Fnv1a {
 public:
  void Add(const void* data, uint64_t n_bytes) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (uint64_t i = 0; i < n_bytes; ++i) hash_ = (hash_ ^ bytes[i]) * 0x100000001b3ULL;
  }
  // Adds the bytes of a number as this machine stores them (little-endian, as the files are).
  template <typename T>
  void AddNumber(T value) {
    static_assert(std::is_arithmetic_v<T>);
    Add(&value, sizeof(value));
  }
  void AddText(std::string_view text) {
    AddNumber(uint64_t{text.size()});
    Add(text.data(), text.size());
  }
  // Returns 16 hexadecimal digits.
  std::string Text() const { return fmt::format("{:016x}", hash_); }

 private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

}  // namespace thermocline
