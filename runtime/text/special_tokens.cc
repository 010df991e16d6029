#include "runtime/text/special_tokens.h"

#include <algorithm>

namespace thermocline {

SpecialTokens::SpecialTokens(const Vocabulary& vocab, std::vector<TokenType> types) {
  for (int32_t id = 0; id < vocab.size(); ++id) {
    const std::string& name = vocab.tokens[id];
    if (name.empty() || std::find(types.begin(), types.end(), vocab.types[id]) == types.end()) {
      continue;
    }
    tokens_.emplace_back(name, id);
    first_bytes_.set(static_cast<uint8_t>(name[0]));
  }
  std::sort(tokens_.begin(), tokens_.end());
}

std::optional<SpecialTokens::Match> SpecialTokens::FindFirst(std::string_view text) const {
  if (tokens_.empty()) return {};
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (!first_bytes_[static_cast<uint8_t>(text[begin])]) continue;
    const auto match = LongestAt(text, begin);
    if (match) return match;
  }
  return {};
}

// Narrows the sorted names byte by byte down to those that begin as the text does here. The
// shortest of them stands first, and it is a match once all its bytes are compared.
std::optional<SpecialTokens::Match> SpecialTokens::LongestAt(std::string_view text,
                                                             size_t begin) const {
  std::optional<Match> longest;
  auto low = tokens_.begin();
  auto high = tokens_.end();
  for (size_t n = 0; begin + n < text.size() && low != high; ++n) {
    const auto byte = static_cast<uint8_t>(text[begin + n]);
    const auto at = [n](const auto& token) { return static_cast<uint8_t>(token.first[n]); };
    low = std::partition_point(
        low, high, [&](const auto& token) { return token.first.size() <= n || at(token) < byte; });
    high = std::partition_point(low, high, [&](const auto& token) { return at(token) == byte; });
    if (low != high && low->first.size() == n + 1) longest = Match{begin, n + 1, low->second};
  }
  return longest;
}

}  // namespace thermocline
