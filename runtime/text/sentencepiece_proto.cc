#include "runtime/text/sentencepiece_proto.h"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <limits>
#include <set>
#include <string_view>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/pieces.h"

namespace thermocline {
namespace {

constexpr size_t kMaxNestedUserDefined = 64;  // the size of the library's result array

// Protocol buffers' wire format: a field is a key (number << 3 | wire type) and a payload.
class ProtoWriter {
 public:
  void AddVarintField(uint32_t number, uint64_t value) {
    AddVarint(number << 3 | 0U);
    AddVarint(value);
  }
  void AddBytesField(uint32_t number, std::string_view value) {
    AddVarint(number << 3 | 2U);
    AddVarint(value.size());
    bytes_ += value;
  }
  void AddFloatField(uint32_t number, float value) {
    AddVarint(number << 3 | 5U);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 0xFF);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void AddVarint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

std::string PieceMessage(std::string_view name, float score, TokenType type) {
  ProtoWriter piece;
  piece.AddBytesField(1, name);
  piece.AddFloatField(2, score);
  piece.AddVarintField(3, static_cast<uint64_t>(type));  // the file's numbers are the library's
  return piece.bytes();
}

std::string TrainerSpec(const Vocabulary& vocab) {
  ProtoWriter spec;
  spec.AddVarintField(3, 2);  // model_type: BPE
  spec.AddVarintField(4, static_cast<uint64_t>(vocab.size()));
  spec.AddVarintField(35, vocab.has_byte_tokens ? 1 : 0);  // byte_fallback
  spec.AddVarintField(40, static_cast<uint64_t>(vocab.unknown_id));
  // A negative int32 is written as 64 bits.
  spec.AddVarintField(41, static_cast<uint64_t>(int64_t{vocab.bos_id}));
  spec.AddVarintField(42, static_cast<uint64_t>(int64_t{vocab.eos_id}));
  return spec.bytes();
}

std::string NormalizerSpec(const NormalizerOptions& options) {
  ProtoWriter spec;
  spec.AddBytesField(1, "identity");
  spec.AddVarintField(3, options.add_dummy_prefix ? 1 : 0);
  spec.AddVarintField(4, options.remove_extra_whitespaces ? 1 : 0);
  spec.AddVarintField(5, 1);  // escape_whitespaces
  return spec.bytes();
}

void CheckUserDefined(const Vocabulary& vocab, const std::set<std::string>& pieces) {
  std::vector<std::string_view> prefixes;  // beginnings of the piece at hand, shortest first
  for (const std::string& piece : pieces) {
    if (piece.find('\0') != std::string::npos) {
      throw Error({vocab.path, "user-defined token", "no NUL byte in it",
                   fmt::format("\"{}\"", Printable(piece, 40)), ""});
    }
    while (!prefixes.empty() && piece.compare(0, prefixes.back().size(), prefixes.back()) != 0) {
      prefixes.pop_back();
    }
    prefixes.push_back(piece);
    if (prefixes.size() > kMaxNestedUserDefined) {
      throw Error({vocab.path, "user-defined tokens that are each other's beginnings",
                   fmt::format("at most {}", kMaxNestedUserDefined), "more", ""});
    }
  }
}

}  // namespace

std::string SentencepieceModelProto(const Vocabulary& vocab, const NormalizerOptions& options) {
  std::set<std::string> user_defined;
  std::vector<bool> shadowed(
      vocab.tokens.size());  // replaced by a user-defined one, once spaces are escaped
  for (int32_t id = 0; id < vocab.size(); ++id) {
    if (vocab.types[id] != TokenType::kUserDefined) continue;
    const std::string name = MatchablePiece(vocab, id);
    shadowed[id] = !name.empty() && !user_defined.insert(name).second;
  }
  CheckUserDefined(vocab, user_defined);

  ProtoWriter model;
  for (int32_t id = 0; id < vocab.size(); ++id) {
    TokenType type = vocab.types[id];
    std::string name = type == TokenType::kByte ? vocab.tokens[id] : MatchablePiece(vocab, id);
    if (type != TokenType::kUserDefined && user_defined.count(name) != 0) shadowed[id] = true;
    if (name.empty() || shadowed[id]) {
      if (type != TokenType::kUnknown) type = TokenType::kControl;
      name = fmt::format("\xFF{}", id);  // 0xFF occurs in no UTF-8 text
    }
    model.AddBytesField(1, PieceMessage(name, vocab.scores[id], type));
  }
  model.AddBytesField(2, TrainerSpec(vocab));
  model.AddBytesField(3, NormalizerSpec(options));
  if (model.bytes().size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error({vocab.path, "size of the vocabulary", "less than 2 GiB",
                 fmt::format("{} bytes", model.bytes().size()), ""});
  }
  return model.bytes();
}

}  // namespace thermocline
