// A vocabulary as a GGUF file describes it (`tokenizer.ggml.*`), checked: whatever a tokenizer does
// with it, an id is in range and the arrays are of one length.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace thermocline {

class GgufReader;

enum class TokenType : uint8_t {  // numbers as in the file
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct Vocabulary {
  std::string path;  // the file, for messages
  std::vector<std::string> tokens;
  std::vector<float> scores;  // finite; a higher one is merged first; none in a byte-level one
  std::vector<TokenType> types;

  int32_t unknown_id = 0;  // the one token of type kUnknown; -1 in a byte-level one without
  int32_t bos_id = -1;     // -1: none
  int32_t eos_id = -1;
  int32_t eot_id = -1;
  int32_t eom_id = -1;
  // What else ends a reply: further ids of the file, control tokens whose names say so.
  std::vector<int32_t> ends;
  bool add_bos = true;
  bool add_eos = false;  // to texts that nothing is to follow
  bool add_space_prefix = true;
  bool remove_extra_spaces = false;
  bool escape_spaces = true;     // in names of tokens U+2581 stands for a space
  bool space_as_suffix = false;  // the space that add_space_prefix adds comes at the end

  // Whether there are the ids of <0x00> to <0xFF>. All 256 are there or none is; without them
  // unknown characters become unknown_id. (A byte-level vocabulary: see bpe_vocabulary.h.)
  bool has_byte_tokens = false;
  std::array<int32_t, 256> byte_ids{};

  // Whether a reply is over after this id: EOS, EOT, EOM, or one of `ends`.
  bool EndsText(int32_t id) const;
  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
};

// Reads the vocabulary of a SentencePiece BPE tokenizer (`tokenizer.ggml.model` is "llama"). Throws
// Error for one that is missing a part or contradicts itself. Where llama.cpp makes sense of a gap,
// so does this: without token types they follow from names and ids, an empty token is one that
// never occurs, and BOS, EOS and unknown are 1, 2 and 0 unless the file says otherwise.
Vocabulary ReadSentencepieceVocabulary(const GgufReader& gguf);

// Reads the vocabulary of a unigram model as T5 has it (`tokenizer.ggml.model` is "t5") in the same
// way. EOS and unknown are 1 and 2 unless the file says otherwise, there is no BOS, and
// whole texts end with EOS.
Vocabulary ReadUnigramVocabulary(const GgufReader& gguf);

// Returns the byte that a token named "<0x41>" stands for, or -1 for any other name.
int ByteOfTokenName(const std::string& name);

}  // namespace thermocline
