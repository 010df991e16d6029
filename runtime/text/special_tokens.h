// Finds tokens that stand in a text with their own names ("<|im_end|>") before the text is encoded.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/vocabulary.h"

namespace thermocline {

class SpecialTokens {
 public:
  struct Match {
    size_t begin;  // in bytes of the text
    size_t n_bytes;
    int32_t id;
  };

  // Takes all tokens of the given types whose names are not empty.
  SpecialTokens(const Vocabulary& vocab, std::vector<TokenType> types);

  // Returns the first place where one of them stands, and the longest of those that start there.
  std::optional<Match> FindFirst(std::string_view text) const;

 private:
  std::optional<Match> LongestAt(std::string_view text, size_t begin) const;

  std::vector<std::pair<std::string, int32_t>> tokens_;  // sorted by name
  std::bitset<256> first_bytes_;
};

}  // namespace thermocline
