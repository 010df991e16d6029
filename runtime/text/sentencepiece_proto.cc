#include "runtime/text/sentencepiece_proto.h"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <limits>
#include <set>
#include <string_view>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

constexpr std::string_view kSpaceSign = "\xE2\x96\x81";
constexpr size_t kMaxNestedUserDefined = 64;  // the size of the library's result array

// Protocol buffers' wire format: a field is a key (number << 3 | wire type) and a payload.
class ProtoWriter {
 public:
  void add_varint_field(uint32_t number, uint64_t value) {
    add_varint(number << 3 | 0U);
    add_varint(value);
  }
  void add_bytes_field(uint32_t number, std::string_view value) {
    add_varint(number << 3 | 2U);
    add_varint(value.size());
    bytes_ += value;
  }
  void add_float_field(uint32_t number, float value) {
    add_varint(number << 3 | 5U);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 0xFF);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void add_varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

std::string piece_message(std::string_view name, float score, TokenType type) {
  ProtoWriter piece;
  piece.add_bytes_field(1, name);
  piece.add_float_field(2, score);
  piece.add_varint_field(3, static_cast<uint64_t>(type));  // the file's numbers are the library's
  return piece.bytes();
}

std::string trainer_spec(const Vocabulary& vocab) {
  ProtoWriter spec;
  spec.add_varint_field(3, 2);  // model_type: BPE
  spec.add_varint_field(4, static_cast<uint64_t>(vocab.size()));
  spec.add_varint_field(35, vocab.has_byte_tokens ? 1 : 0);  // byte_fallback
  spec.add_varint_field(40, static_cast<uint64_t>(vocab.unknown_id));
  // A negative int32 is written as 64 bits.
  spec.add_varint_field(41, static_cast<uint64_t>(int64_t{vocab.bos_id}));
  spec.add_varint_field(42, static_cast<uint64_t>(int64_t{vocab.eos_id}));
  return spec.bytes();
}

std::string normalizer_spec(const NormalizerOptions& options) {
  ProtoWriter spec;
  spec.add_bytes_field(1, "identity");
  spec.add_varint_field(3, options.add_dummy_prefix ? 1 : 0);
  spec.add_varint_field(4, options.remove_extra_whitespaces ? 1 : 0);
  spec.add_varint_field(5, 1);  // escape_whitespaces
  return spec.bytes();
}

void check_user_defined(const Vocabulary& vocab, const std::set<std::string>& pieces) {
  std::vector<std::string_view> prefixes;  // of the piece at hand, shortest first
  for (const std::string& piece : pieces) {
    if (piece.find('\0') != std::string::npos) {
      throw Error({vocab.path, "user-defined token", "no NUL byte in it",
                   fmt::format("\"{}\"", printable(piece, 40)), ""});
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

std::string matchable_piece(const Vocabulary& vocab, int32_t id) {
  const std::string& token = vocab.tokens[id];
  const TokenType type = vocab.types[id];
  if (type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kByte) {
    return "";
  }
  if (!is_valid_utf8(token)) return "";
  return type == TokenType::kUserDefined ? escape_spaces(token) : token;
}

std::string sentencepiece_model_proto(const Vocabulary& vocab, const NormalizerOptions& options) {
  std::set<std::string> user_defined;
  std::vector<bool> shadowed(
      vocab.tokens.size());  // by a user-defined one, once spaces are escaped
  for (int32_t id = 0; id < vocab.size(); ++id) {
    if (vocab.types[id] != TokenType::kUserDefined) continue;
    const std::string name = matchable_piece(vocab, id);
    shadowed[id] = !name.empty() && !user_defined.insert(name).second;
  }
  check_user_defined(vocab, user_defined);

  ProtoWriter model;
  for (int32_t id = 0; id < vocab.size(); ++id) {
    TokenType type = vocab.types[id];
    std::string name = type == TokenType::kByte ? vocab.tokens[id] : matchable_piece(vocab, id);
    if (type != TokenType::kUserDefined && user_defined.count(name) != 0) shadowed[id] = true;
    if (name.empty() || shadowed[id]) {
      if (type != TokenType::kUnknown) type = TokenType::kControl;
      name = fmt::format("\xFF{}", id);  // 0xFF occurs in no UTF-8 text
    }
    model.add_bytes_field(1, piece_message(name, vocab.scores[id], type));
  }
  model.add_bytes_field(2, trainer_spec(vocab));
  model.add_bytes_field(3, normalizer_spec(options));
  if (model.bytes().size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error({vocab.path, "size of the vocabulary", "less than 2 GiB",
                 fmt::format("{} bytes", model.bytes().size()), ""});
  }
  return model.bytes();
}

std::string escape_spaces(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceSign;
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape_spaces(const std::string& piece) {
  std::string out;
  for (size_t i = 0; i < piece.size();) {
    if (piece.compare(i, kSpaceSign.size(), kSpaceSign) == 0) {
      out += ' ';
      i += kSpaceSign.size();
    } else {
      out += piece[i++];
    }
  }
  return out;
}

}  // namespace thermocline
