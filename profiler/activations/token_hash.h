// What a text was, as one number: so that files say which text they were made from.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

namespace thermocline {

// FNV-1a over the ids of tokens (http://www.isthe.com/chongo/tech/comp/fnv/).
class TokenHash {
 public:
  void Add(const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      for (int shift = 0; shift < 32; shift += 8) {
        hash_ = (hash_ ^ (static_cast<uint32_t>(id) >> shift & 0xFFU)) * 0x100000001b3ULL;
      }
    }
  }
  std::string Text() const { return fmt::format("{:016x}", hash_); }

 private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

}  // namespace thermocline
