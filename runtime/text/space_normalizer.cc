#include "runtime/text/space_normalizer.h"

#include "runtime/text/utf8.h"

namespace thermocline {

void SpaceNormalizer::Append(std::string_view text, std::string* out) {
  while (!text.empty()) {
    const CharMap::Match match = char_map_.Find(text);
    size_t n_bytes = match.n_bytes;
    if (n_bytes > 0) {
      AppendReplacement(match.replacement, out);
    } else if (static_cast<uint8_t>(text[0]) < 0x80) {
      n_bytes = 1;
      AppendReplacement(text.substr(0, 1), out);
    } else {
      const Utf8Char next = FirstUtf8Char(text);
      const bool is_valid = next.status == Utf8Status::kValid;
      n_bytes = is_valid ? next.n_bytes : 1;
      const bool is_kept = is_valid || vocab_.has_byte_tokens;
      AppendReplacement(is_kept ? text.substr(0, n_bytes) : kReplacementCharacter, out);
    }
    text.remove_prefix(n_bytes);
  }
}

void SpaceNormalizer::AppendReplacement(std::string_view text, std::string* out) {
  if (text.empty()) Begin(out);
  for (const char c : text) {
    if (c != ' ') {
      BeforeCharacter(out);
      out->push_back(c);
    } else if (vocab_.remove_extra_spaces) {
      owes_space_ = has_text_;
    } else {
      Begin(out);
      out->append(space_);
    }
  }
}

void SpaceNormalizer::Begin(std::string* out) {
  if (!has_begun_ && vocab_.add_space_prefix && !vocab_.space_as_suffix) out->append(space_);
  has_begun_ = true;
}

void SpaceNormalizer::BeforeCharacter(std::string* out) {
  Begin(out);
  if (owes_space_) out->append(space_);
  owes_space_ = false;
  has_text_ = true;
}

void SpaceNormalizer::Finish(std::string* out) {
  // Space signs that the text itself ends with go, too.
  const auto ends_with_space = [&] { return std::string_view(*out).ends_with(space_); };
  while (vocab_.remove_extra_spaces && ends_with_space()) out->resize(out->size() - space_.size());
  if (has_begun_ && vocab_.add_space_prefix && vocab_.space_as_suffix) out->append(space_);
}

}  // namespace thermocline
