// The normaliser of a SentencePiece model, compiled (`tokenizer.ggml.precompiled_charsmap`): which
// sequences of characters are replaced by which others, mostly Unicode's NFKC and what makes spaces
// of other white space.
//
// It is a trie over the bytes of the sequences in a double array (Darts-clone), then the
// replacements, each with a NUL at its end. A file's is untrusted: where the trie leads outside the
// array nothing matches, and replacements are in range and short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

class CharMap {
 public:
  // No replacement is longer; the longest of NFKC has 33 bytes.
  static constexpr size_t kMaxReplacementBytes = 256;

  CharMap() = default;  // replaces nothing
  // bytes: u32 size of the array in bytes, the array of u32 units, the replacements. Throws Error
  // about the file at `path` where that is not what they are.
  CharMap(const std::string& path, std::string_view bytes);

  struct Match {
    size_t n_bytes = 0;  // of the text; 0: nothing is replaced here
    std::string_view replacement;
  };
  // Returns the longest sequence at the start of a text that is replaced.
  Match Find(std::string_view text) const;

 private:
  void CheckReplacements(const std::string& path) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace thermocline
