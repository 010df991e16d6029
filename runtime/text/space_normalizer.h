// What a SentencePiece model does to a text before it looks for pieces: replaces characters
// (char_map.h), puts a space in front or at the end, leaves extra spaces out, and writes spaces as
// U+2581.
#pragma once

#include <string>
#include <string_view>

#include "runtime/text/char_map.h"
#include "runtime/text/pieces.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

class SpaceNormalizer {
 public:
  // Follows the options of `vocab`; both must outlive this.
  SpaceNormalizer(const Vocabulary& vocab, const CharMap& char_map)
      : vocab_(vocab), char_map_(char_map), space_(vocab.escape_spaces ? kSpaceSign : " ") {}

  // Appends the next part of a text to *out. Bytes that are no UTF-8 stay where they can become
  // byte tokens; else each becomes U+FFFD.
  void Append(std::string_view text, std::string* out);
  // Appends what comes before a token that stands in the text with its own name.
  void BeforeToken(std::string* out) { BeforeCharacter(out); }
  // Puts the end of the text right. REQUIRES: *out holds what came since the last such token.
  void Finish(std::string* out);

 private:
  void AppendReplacement(std::string_view text, std::string* out);
  // Appends the space that stands in front of everything, once.
  void Begin(std::string* out);
  // Appends what stands between the last character and another one.
  void BeforeCharacter(std::string* out);

  const Vocabulary& vocab_;
  const CharMap& char_map_;
  std::string_view space_;
  bool has_begun_ = false;
  // Where extra spaces are left out:
  bool has_text_ = false;    // a character has come
  bool owes_space_ = false;  // a space comes before the next one
};

}  // namespace thermocline
