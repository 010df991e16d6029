#include <fmt/format.h>

#include "runtime/text/jinja/parser.h"

namespace thermocline::jinja {
namespace {

std::string DescribeToken(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "text";
    case TokenKind::kPrintBegin:
      return "'{{'";
    case TokenKind::kPrintEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kEnd:
      return "the template's end";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace

Token TokenReader::Take() {
  Token token = current();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool TokenReader::TakeOperator(std::string_view text) {
  if (!IsOperator(text)) return false;
  Take();
  return true;
}

bool TokenReader::TakeName(std::string_view text) {
  if (!IsName(text)) return false;
  Take();
  return true;
}

void TokenReader::ExpectOperator(std::string_view text) {
  if (!TakeOperator(text)) FailExpected(fmt::format("'{}'", text));
}

void TokenReader::ExpectName(std::string_view text) {
  if (!TakeName(text)) FailExpected(fmt::format("'{}'", text));
}

void TokenReader::Expect(TokenKind kind, const std::string& expected) {
  if (!Is(kind)) FailExpected(expected);
  Take();
}

std::string TokenReader::TakeIdentifier(const std::string& expected) {
  if (!Is(TokenKind::kName)) FailExpected(expected);
  return Take().text;
}

void TokenReader::FailExpected(const std::string& expected) const {
  throw Failure({.what = "the template is not well-formed",
                 .expected = expected,
                 .found = DescribeToken(current())},
                current().line);
}

void TokenReader::Enter() {
  if (depth_ >= limits_.max_parse_depth) {
    throw Failure({.what = fmt::format("the template nests more than {} levels deep",
                                       limits_.max_parse_depth)},
                  current().line);
  }
  ++depth_;
}

}  // namespace thermocline::jinja
