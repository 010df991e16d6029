// A libFuzzer harness of vocabularies of pieces: unigram models with their normalisers, and BPE
// over plain text. Whatever a file says of its vocabulary, there is an Error or a tokenizer, and
// whatever the text, a tokenizer with all bytes that changes nothing gives it back.
//
// An input is a small language, so that it need not be a whole GGUF: a byte of flags, a byte with
// the size of the normaliser in units of 8 bytes and the normaliser (of a unigram model), then a
// line of merges with ',' between them (of BPE), lines of a byte of type, 4 bytes of score and the
// name of a token up to an empty line, and the text behind that.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/tokenizer.h"
#include "tests/fuzz/use_tokenizer.h"
#include "tests/gguf/gguf_bytes.h"

namespace {

using thermocline::GgufBytes;
using thermocline::GgufReader;
using thermocline::GgufType;
using thermocline::Tokenizer;

enum : unsigned {
  kUnigram = 1,
  kHasBytes = 2,
  kNoSpacePrefix = 4,
  kRemoveExtraSpaces = 8,
  kSpaceAsSuffix = 16,
  kKeepSpaces = 32,
  kHasNormaliser = 64,
};

std::string Take(size_t size, std::string_view* rest) {
  std::string taken(rest->substr(0, size));
  rest->remove_prefix(taken.size());
  return taken;
}

// Takes what stands before the next line end, or everything.
std::string TakeLine(std::string_view* rest) {
  std::string line = Take(std::min(rest->find('\n'), rest->size()), rest);
  Take(1, rest);
  return line;
}

unsigned TakeByte(std::string_view* rest) {
  const std::string byte = Take(1, rest);
  return byte.empty() ? 0 : static_cast<uint8_t>(byte[0]);
}

struct Pieces {
  std::vector<std::string> names;
  std::vector<uint32_t> types;
  std::vector<uint32_t> scores;  // bits of floats: any, NaN included

  void Add(std::string name, uint32_t type, float score) {
    names.push_back(std::move(name));
    types.push_back(type);
    scores.emplace_back();
    std::memcpy(&scores.back(), &score, sizeof(score));
  }
};

Pieces TakePieces(unsigned flags, std::string_view* rest) {
  Pieces pieces;
  pieces.Add("<pad>", 3, 0);
  pieces.Add("</s>", 3, 0);
  pieces.Add("<unk>", 2, 0);
  pieces.Add("\xE2\x96\x81", 1, -2);
  for (int byte = 0; byte < 256 && (flags & kHasBytes) != 0; ++byte) {
    pieces.Add(fmt::format("<0x{:02X}>", byte), 6, 0);
  }
  for (std::string line; !(line = TakeLine(rest)).empty();) {
    std::string_view left = line;
    const unsigned type = TakeByte(&left);
    const std::string bits = Take(sizeof(float), &left);
    float score = 0;
    std::memcpy(&score, bits.data(), bits.size());
    pieces.Add(std::string(left), type >= '0' && type <= '9' ? type - '0' : 1, score);
  }
  return pieces;
}

void AddStrings(const char* key, const std::vector<std::string>& strings, GgufBytes* file) {
  file->KeyArray(key, GgufType::kString, strings.size());
  for (const std::string& text : strings) file->text(text);
}

void AddU32s(const char* key, GgufType type, const std::vector<uint32_t>& values, GgufBytes* file) {
  file->KeyArray(key, type, values.size());
  for (const uint32_t value : values) file->u32(value);
}

// Takes a vocabulary off the front of *rest and returns a GGUF file that holds it.
std::string TakePieceVocabulary(unsigned flags, std::string_view* rest) {
  const size_t n_normaliser_bytes = 8 * size_t{TakeByte(rest)};
  const std::string normaliser =
      (flags & kHasNormaliser) != 0 ? Take(n_normaliser_bytes, rest) : std::string();
  std::vector<std::string> merges;
  const std::string line = TakeLine(rest);
  for (std::string_view left = line; !left.empty();) {
    merges.push_back(Take(std::min(left.find(','), left.size()), &left));
    Take(1, &left);
  }
  const Pieces pieces = TakePieces(flags, rest);
  GgufBytes file;
  file.header(/*n_tensors=*/0, /*n_keys=*/10);
  file.KeyText("tokenizer.ggml.model", (flags & kUnigram) != 0 ? "t5" : "gemma4");
  const auto add_flag = [&file](const std::string& name, bool value) {
    file.key("tokenizer.ggml." + name, GgufType::kBool).u8(value ? 1 : 0);
  };
  add_flag("add_space_prefix", (flags & kNoSpacePrefix) == 0);
  add_flag("remove_extra_whitespaces", (flags & kRemoveExtraSpaces) != 0);
  add_flag("treat_whitespace_as_suffix", (flags & kSpaceAsSuffix) != 0);
  add_flag("escape_whitespaces", (flags & kKeepSpaces) == 0);
  AddStrings("tokenizer.ggml.tokens", pieces.names, &file);
  AddStrings("tokenizer.ggml.merges", merges, &file);
  AddU32s("tokenizer.ggml.token_type", GgufType::kU32, pieces.types, &file);
  AddU32s("tokenizer.ggml.scores", GgufType::kF32, pieces.scores, &file);
  file.KeyArray("tokenizer.ggml.precompiled_charsmap", GgufType::kU8, normaliser.size());
  return file.raw(normaliser).pad().bytes();
}

// U+2581 and a space are the same to such vocabularies.
std::string WithSpaces(std::string text) {
  constexpr std::string_view kSign = "\xE2\x96\x81";
  for (size_t at = 0; (at = text.find(kSign, at)) != text.npos;) {
    text.replace(at, kSign.size(), " ");
  }
  return text;
}

void UsePieces(const Tokenizer& tokenizer, unsigned flags, const std::string& text) {
  const std::vector<int32_t> ids = thermocline::EncodeTwice(tokenizer, text);
  const unsigned changes = kRemoveExtraSpaces | kSpaceAsSuffix | kHasNormaliser;
  const bool is_kept = (flags & kUnigram) == 0 || (flags & changes) == 0;
  if ((flags & kHasBytes) == 0 || !is_kept) return;
  if (WithSpaces(tokenizer.Decode(ids)) != WithSpaces(text)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  thermocline::ExpectOneLineErrors([&] {
    const unsigned flags = TakeByte(&rest);
    const std::string file = TakePieceVocabulary(flags, &rest);
    const GgufReader gguf(thermocline::AsBytes(file), "fuzz.gguf");
    UsePieces(*thermocline::MakeTokenizer(gguf), flags, std::string(rest));
  });
  return 0;
}
