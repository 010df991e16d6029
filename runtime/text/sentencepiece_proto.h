// The bytes of a sentencepiece ModelProto (src/sentencepiece_model.proto of that project), written
// by hand: the library takes a model only in this form, and its package ships no header for the
// message.
#pragma once

#include <string>

#include "runtime/text/vocabulary.h"

namespace thermocline {

struct NormalizerOptions {
  bool add_dummy_prefix = false;
  bool remove_extra_whitespaces = false;
};

// Makes a BPE model of the vocabulary with the identity as its normaliser. Piece i is token i.
// Tokens that no text may turn into (control and unknown ones, empty ones, ones that are not UTF-8)
// get a name that no text holds; "the string <s>" therefore never becomes BOS. In user-defined
// pieces a plain space is written as U+2581, which is what text holds when they are looked for
// (newer converters store a space). Throws Error where the library would abort: user-defined tokens
// with a NUL byte, or more than 64 of them that are each other's beginnings.
std::string SentencepieceModelProto(const Vocabulary& vocab, const NormalizerOptions& options);

}  // namespace thermocline
