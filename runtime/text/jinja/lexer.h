// Cuts a template into text and tokens, with whitespace control as transformers sets it for chat
// templates: trim_blocks, lstrip_blocks, no newline kept at the end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/text/jinja/budget.h"

namespace thermocline::jinja {

enum class TokenKind : uint8_t {
  kText,        // outside of tags, what whitespace control leaves of it
  kPrintBegin,  // {{
  kPrintEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,   // decoded
  kInteger,  // digits as written, without underscores
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text = {};
};

// Returns the tokens; the last is kEnd. Throws Failure with the line.
std::vector<Token> Tokenize(const std::string& source, const Limits& limits);

// Returns what a string literal stands for, given the text between its quotes.
std::string DecodeStringLiteral(std::string_view text, int line);

}  // namespace thermocline::jinja
