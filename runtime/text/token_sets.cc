#include "runtime/text/token_sets.h"

#include <algorithm>

namespace thermocline {

std::vector<int32_t> TokensWith(const Tokenizer& tokenizer, std::span<const std::string> parts) {
  std::vector<int32_t> ids;
  if (parts.empty()) return ids;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string text = tokenizer.TokenBytes(id);
    const bool has = std::ranges::any_of(parts, [&](const std::string& part) {
      return !part.empty() && text.find(part) != std::string::npos;
    });
    if (has) ids.push_back(id);
  }
  return ids;
}

std::vector<int32_t> EndTokens(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.EndsText(id)) ids.push_back(id);
  }
  return ids;
}

}  // namespace thermocline
