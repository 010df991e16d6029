// Which expressions cut a text into words before byte pair encoding, by the name that GGUF files
// give them (`tokenizer.ggml.pre`). The name stands for the tokenizer that the model was trained
// with. A wrong one still encodes every text, but to ids the model has hardly seen.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/unicode_form.h"

namespace thermocline {

// A step cuts every piece of the step before at the matches of an expression: each match is a
// piece, and so is what lies between two of them. An expression sees one piece, not the text around
// it.
struct PretokenizerStep {
  // PCRE2 syntax. \s is exactly Unicode's White_Space, as in the tokenizers' own engines.
  std::string expression;
  bool by_threes = false;  // each match is cut again into threes of characters, from its end
};

struct PretokenizerInfo {
  std::string_view name;
  std::vector<PretokenizerStep> steps;  // applied one after the other
  bool ignore_merges = false;           // a whole word that is a token is taken as it is
  bool add_bos = false;                 // where the file does not say
  // The vocabulary's names are plain text with U+2581 for a space, not spellings of bytes.
  bool plain_pieces = false;
  // What the name's own tokenizer puts a text into first, where the file does not say.
  UnicodeForm form = UnicodeForm::kNone;
};

// The name that a file without one is taken to have; it cuts as GPT-2 does.
inline constexpr std::string_view kDefaultPretokenizer = "default";

// Returns what a name stands for, or nothing for an unknown one.
std::optional<PretokenizerInfo> FindPretokenizer(std::string_view name);

// Returns every name that FindPretokenizer() knows.
std::vector<std::string_view> PretokenizerNames();

}  // namespace thermocline
