// The vocabulary of a BPE tokenizer with merges (`tokenizer.ggml.model` is "gpt2" or "gemma4"),
// checked as that of vocabulary.h is.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/text/merge_table.h"
#include "runtime/text/pretokenizer_table.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

class GgufReader;

struct BpeVocabulary {
  Vocabulary vocab;              // byte_ids: the tokens of single bytes; -1 where there is none
  std::vector<BpeMerge> merges;  // lowest rank first
  PretokenizerInfo pretokenizer;
};

// Our own key: the form that a text is put into before it is cut ("NFC", ..., "none").
inline constexpr const char* kNormalizerKey = "thermocline.tokenizer.normalizer";

// Whether text may be joined to this token: not to control, unknown and unused ones, and not to
// user-defined ones, which are cut out of a text before and whose names are no spellings. Where
// names are plain text (plain_pieces) "<0x41>" is the name of a byte and spells no text.
bool IsTextToken(const Vocabulary& vocab, int32_t id, bool plain_pieces);

// Reads the vocabulary. Throws Error for one that is missing a part or contradicts itself, without
// the token of any byte (where it is byte-level), or cut by a pre-tokenizer that is not known. A
// merge whose parts or whose result are no tokens of text is left out, as public engines never use
// it. BOS, EOS and unknown are what the file says, else there is none.
BpeVocabulary ReadBpeVocabulary(const GgufReader& gguf);

}  // namespace thermocline
