#include "runtime/text/shielded_text.h"

#include "runtime/text/utf8.h"

namespace thermocline {

std::string ShieldControlTokens(const Tokenizer& tokenizer, std::string_view text) {
  std::string shielded;
  while (const auto match = tokenizer.FindControlToken(text)) {
    // The search goes on within the name, in which another one may begin.
    const size_t n_first = FirstUtf8Char(text.substr(match->begin)).n_bytes;
    shielded += text.substr(0, match->begin + n_first);
    if (n_first < match->n_bytes) shielded += kShieldMark;
    text.remove_prefix(match->begin + n_first);
  }
  return shielded.append(text);
}

std::string WithoutShields(std::string_view text) {
  std::string plain;
  for (size_t at = text.find(kShieldMark); at != text.npos; at = text.find(kShieldMark)) {
    plain += text.substr(0, at);
    text.remove_prefix(at + kShieldMark.size());
  }
  return plain.append(text);
}

std::vector<int32_t> EncodeShielded(const Tokenizer& tokenizer, std::string_view prompt) {
  std::vector<int32_t> ids;
  const auto append_text = [&](std::string_view text) {
    if (text.empty()) return;
    const std::vector<int32_t> more = tokenizer.Encode(WithoutShields(text));
    ids.insert(ids.end(), more.begin(), more.end());
  };
  while (const auto match = tokenizer.FindControlToken(prompt)) {
    append_text(prompt.substr(0, match->begin));
    ids.push_back(match->id);
    prompt.remove_prefix(match->begin + match->n_bytes);
  }
  append_text(prompt);
  const bool begins = !ids.empty() && ids.front() == tokenizer.bos_id();
  if (tokenizer.add_bos() && tokenizer.bos_id() >= 0 && !begins) {
    ids.insert(ids.begin(), tokenizer.bos_id());
  }
  return ids;
}

}  // namespace thermocline
