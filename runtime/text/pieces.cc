#include "runtime/text/pieces.h"

#include "runtime/core/error.h"
#include "runtime/text/utf8.h"

namespace thermocline {

std::string MatchablePiece(const Vocabulary& vocab, int32_t id) {
  const std::string& token = vocab.tokens[id];
  const TokenType type = vocab.types[id];
  if (type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kByte) {
    return "";
  }
  if (!IsValidUtf8(token)) return "";
  return type == TokenType::kUserDefined ? EscapeSpaces(token) : token;
}

std::string PieceBytes(const Vocabulary& vocab, int32_t id) {
  CHECK(id >= 0 && id < vocab.size());
  switch (vocab.types[id]) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return "";
    case TokenType::kByte:
      return std::string(1, static_cast<char>(ByteOfTokenName(vocab.tokens[id])));
    default:
      return UnescapeSpaces(vocab.tokens[id]);
  }
}

std::string EscapeSpaces(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceSign;
    } else {
      out += c;
    }
  }
  return out;
}

std::string UnescapeSpaces(std::string_view piece) {
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
