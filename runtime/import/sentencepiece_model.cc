// Reads a tokenizer.model by hand: only a few fields of it count, and every length in it is
// checked against what is left.
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "runtime/core/error.h"
#include "runtime/import/imported_vocabulary.h"

namespace thermocline {
namespace {

constexpr size_t kMaxPieces = size_t{1} << 22;
constexpr size_t kMaxPieceBytes = 4096;

// Numbers of fields (src/sentencepiece_model.proto).
constexpr uint32_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;
constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr uint32_t kModelType = 3;
constexpr uint32_t kCharMap = 2, kAddDummyPrefix = 3, kRemoveExtraSpaces = 4, kEscapeSpaces = 5;
constexpr uint64_t kUnigram = 1, kBpe = 2;

// Protocol buffers' wire format: fields, each a key (number << 3 | wire type) and a payload.
class ProtoReader {
 public:
  ProtoReader(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  // Reads the next field. Returns false at the end.
  bool Next() {
    if (bytes_.empty()) return false;
    const uint64_t key = TakeVarint();
    number_ = static_cast<uint32_t>(key >> 3);
    wire_type_ = static_cast<uint32_t>(key & 7);
    switch (wire_type_) {
      case 0:
        varint_ = TakeVarint();
        return true;
      case 1:
        payload_ = Take(8);
        return true;
      case 2:
        payload_ = Take(TakeVarint());
        return true;
      case 5:
        payload_ = Take(4);
        return true;
      default:
        Fail("wire types 0, 1, 2 and 5", std::to_string(wire_type_));
    }
  }

  uint32_t number() const { return number_; }
  uint64_t varint() const {
    if (wire_type_ != 0) FailKind("an integer");
    return varint_;
  }
  std::string_view bytes() const {
    if (wire_type_ != 2) FailKind("bytes");
    return payload_;
  }
  float number32() const {
    if (wire_type_ != 5) FailKind("a float");
    uint32_t bits;
    std::memcpy(&bits, payload_.data(), sizeof(bits));
    return std::bit_cast<float>(bits);
  }

  [[noreturn]] void Fail(std::string expected, std::string found) const {
    throw Error({.path = path_,
                 .what = "not a sentencepiece model, or a damaged one",
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .hint = "download it again"});
  }

 private:
  [[noreturn]] void FailKind(const char* kind) const {
    Fail(fmt::format("{} in field {}", kind, number_), fmt::format("wire type {}", wire_type_));
  }
  uint64_t TakeVarint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) break;
      const auto byte = static_cast<uint8_t>(bytes_.front());
      bytes_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7fU) << shift;
      if (byte < 0x80) return value;
    }
    Fail("an integer", "its end is missing");
  }
  std::string_view Take(uint64_t n_bytes) {
    if (n_bytes > bytes_.size()) {
      Fail(fmt::format("{} bytes more", n_bytes), fmt::format("{} bytes", bytes_.size()));
    }
    const std::string_view taken = bytes_.substr(0, n_bytes);
    bytes_.remove_prefix(n_bytes);
    return taken;
  }

  std::string_view bytes_;
  const std::string& path_;
  uint32_t number_ = 0;
  uint32_t wire_type_ = 0;
  uint64_t varint_ = 0;
  std::string_view payload_;
};

void ReadPiece(std::string_view bytes, const std::string& path, ImportedVocabulary* vocab) {
  std::string text;
  float score = 0;
  uint64_t type = static_cast<uint64_t>(TokenType::kNormal);
  ProtoReader piece(bytes, path);
  while (piece.Next()) {
    if (piece.number() == kPieceText) text = piece.bytes();
    if (piece.number() == kPieceScore) score = piece.number32();
    if (piece.number() == kPieceType) type = piece.varint();
  }
  if (text.size() > kMaxPieceBytes || type < 1 || type > 6 || !std::isfinite(score) ||
      vocab->tokens.size() >= kMaxPieces) {
    piece.Fail(fmt::format("up to {} pieces of up to {} bytes, with a score and a type from 1 to 6",
                           kMaxPieces, kMaxPieceBytes),
               fmt::format("{} bytes, score {}, type {}", text.size(), score, type));
  }
  vocab->tokens.push_back(std::move(text));
  vocab->scores.push_back(score);
  vocab->types.push_back(static_cast<TokenType>(type));  // the library's numbers are the file's
}

uint64_t ReadModelType(std::string_view bytes, const std::string& path) {
  uint64_t type = kUnigram;  // the format's default
  ProtoReader spec(bytes, path);
  while (spec.Next()) {
    if (spec.number() == kModelType) type = spec.varint();
  }
  return type;
}

void ReadNormalizer(std::string_view bytes, const std::string& path, ImportedVocabulary* vocab) {
  ProtoReader spec(bytes, path);
  while (spec.Next()) {
    if (spec.number() == kCharMap) vocab->char_map = spec.bytes();
    if (spec.number() == kAddDummyPrefix) vocab->add_space_prefix = spec.varint() != 0;
    if (spec.number() == kRemoveExtraSpaces) vocab->remove_extra_spaces = spec.varint() != 0;
    if (spec.number() == kEscapeSpaces && spec.varint() == 0) {
      spec.Fail("spaces that are escaped", "spaces that are not");
    }
  }
}

}  // namespace

ImportedVocabulary ParseSentencepieceModel(std::string_view bytes, const std::string& path) {
  ImportedVocabulary vocab;
  vocab.pre = "default";
  vocab.add_space_prefix = true;  // the format's defaults
  vocab.remove_extra_spaces = true;
  uint64_t type = kUnigram;
  ProtoReader model(bytes, path);
  while (model.Next()) {
    if (model.number() == kPieces) ReadPiece(model.bytes(), path, &vocab);
    if (model.number() == kTrainerSpec) type = ReadModelType(model.bytes(), path);
    if (model.number() == kNormalizerSpec) ReadNormalizer(model.bytes(), path, &vocab);
  }
  if (vocab.tokens.empty()) model.Fail("pieces", "none");
  if (type != kUnigram && type != kBpe) {
    model.Fail("a unigram or a BPE model", fmt::format("type {}", type));
  }
  vocab.model = type == kBpe ? "llama" : "t5";
  return vocab;
}

}  // namespace thermocline
