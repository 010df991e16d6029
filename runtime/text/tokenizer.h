// Turns text into token ids and back. It is made from a GGUF's `tokenizer.ggml.*` keys; nothing of
// a tokenizer is read from anywhere else.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/special_tokens.h"

namespace thermocline {

class GgufReader;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int32_t vocab_size() const = 0;
  // Returns -1 where the vocabulary has none.
  virtual int32_t bos_id() const = 0;
  virtual int32_t eos_id() const = 0;
  virtual bool add_bos() const = 0;               // the file's own wish for a prompt's first token
  virtual bool add_eos() const { return false; }  // and for a whole text's last one
  // Whether a reply is over after this id (EOS, and what else the vocabulary ends a turn with).
  virtual bool EndsText(int32_t id) const = 0;

  // Encodes a text. No BOS or EOS is added. Text that looks like a control token ("<s>") is text,
  // unless parse_special is set: then it becomes that token. That is for text of a program's own, a
  // chat template around what users wrote, and never for what they wrote.
  std::vector<int32_t> Encode(std::string_view text, bool parse_special = false) const {
    return EncodeText(text, parse_special);
  }
  // Encodes the start of a text that is to be continued: BOS first where the file wishes it, and
  // never EOS, after which nothing follows.
  std::vector<int32_t> EncodePrompt(std::string_view text, bool parse_special = false) const;
  // Encodes a whole text, as an encoder reads it: BOS first and EOS last where the file wishes
  // them.
  std::vector<int32_t> EncodeWhole(std::string_view text) const;

  // Returns the first name of a control token in a text, if there is one.
  virtual std::optional<SpecialTokens::Match> FindControlToken(std::string_view /*text*/) const {
    return {};
  }

  // Returns the bytes one token stands for (a byte token: one byte; a control token: none), with
  // the leading space a word piece carries. They need not be whole UTF-8 characters.
  virtual std::string TokenBytes(int32_t id) const = 0;
  // Returns what to show for a token: its bytes, or the name of a token that stands for no text.
  virtual std::string TokenName(int32_t id) const { return TokenBytes(id); }
  // Whether the encoder puts a space in front of a text, so that the decoder drops the first one.
  virtual bool adds_space_prefix() const = 0;
  // Returns the text of a whole sequence, with the first space dropped where the encoder added it.
  std::string Decode(const std::vector<int32_t>& ids) const;

 protected:
  virtual std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const = 0;
};

// Throws Error when the file has no vocabulary, one of a kind not supported (the message lists
// which are), or an inconsistent one (scores and tokens of different length, ids out of range,
// ...).
std::unique_ptr<Tokenizer> MakeTokenizer(const GgufReader& gguf);

// Turns a stream of tokens into text that can be printed as it comes: bytes of a character are held
// back until it is complete; bytes that can never become one are replaced by U+FFFD.
class StreamDecoder {
 public:
  // at_text_start: drop the space the encoder put in front of the first word.
  StreamDecoder(const Tokenizer& tokenizer, bool at_text_start);
  std::string Push(int32_t id);  // what became printable
  std::string Finish();          // what was held back, made valid

 private:
  std::string Drain(bool at_end);
  const Tokenizer& tokenizer_;
  bool drop_space_;
  std::string pending_;
};

}  // namespace thermocline
