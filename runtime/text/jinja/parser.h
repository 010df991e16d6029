// From tokens to the tree, with jinja2's grammar.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/text/jinja/ast.h"
#include "runtime/text/jinja/lexer.h"

namespace thermocline::jinja {

// Returns the statements of a template. Throws Failure with the line.
Body ParseTemplate(const std::string& source, const Limits& limits);

// Reads tokens one after the other. Expressions and statements have a reader each.
class TokenReader {
 public:
  TokenReader(std::vector<Token> tokens, const Limits& limits)
      : tokens_(std::move(tokens)), limits_(limits) {}

  const Token& current() const { return tokens_[position_]; }
  const Token& next() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Limits& limits() const { return limits_; }

  Token Take();
  bool Is(TokenKind kind) const { return current().kind == kind; }
  bool IsOperator(std::string_view text) const { return IsToken(TokenKind::kOperator, text); }
  bool IsName(std::string_view text) const { return IsToken(TokenKind::kName, text); }
  // Whether the token is there; it is taken.
  bool TakeOperator(std::string_view text);
  bool TakeName(std::string_view text);
  // Each throws Failure for another token.
  void ExpectOperator(std::string_view text);
  void ExpectName(std::string_view text);
  void Expect(TokenKind kind, const std::string& expected);
  std::string TakeIdentifier(const std::string& expected);
  [[noreturn]] void FailExpected(const std::string& expected) const;

  // One level of the template's nesting; throws Failure where it is too deep.
  void Enter();
  void Leave() { --depth_; }

  // Names that a macro's body speaks of.
  bool saw_varargs = false;
  bool saw_kwargs = false;

 private:
  bool IsToken(TokenKind kind, std::string_view text) const {
    return current().kind == kind && current().text == text;
  }

  std::vector<Token> tokens_;
  Limits limits_;
  size_t position_ = 0;
  int depth_ = 0;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenReader& reader) : reader_(reader) {}

  // An expression; `a, b` is a tuple where allowed. Without `conditional`, `if` ends it.
  ExpressionPtr ParseTuple(bool conditional = true);
  ExpressionPtr Parse(bool conditional = true);
  // A name, a namespace's attribute where allowed, or a tuple of names and of such tuples.
  ExpressionPtr ParseTarget(bool with_attribute);
  // Filters after `value`: the first without its "|".
  ExpressionPtr ParseFilters(ExpressionPtr value, bool first_is_named);
  static ExpressionPtr New(ExpressionKind kind, int line);

 private:
  ExpressionPtr ParseTargetItem(bool with_attribute);
  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseCompare();
  bool TakeComparison(Operator* op);
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcat();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseUnary(bool with_filters);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseName();
  ExpressionPtr ParseNumber();
  ExpressionPtr ParseStrings();
  ExpressionPtr ParseParentheses();
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  ExpressionPtr ParsePostfix(ExpressionPtr value);
  ExpressionPtr ParseFiltersAndTests(ExpressionPtr value);
  ExpressionPtr ParseAttribute(ExpressionPtr value);
  ExpressionPtr ParseSubscript(ExpressionPtr value);
  ExpressionPtr ParseTest(ExpressionPtr value);
  ExpressionPtr ParseCall(ExpressionPtr value);
  std::vector<Argument> ParseArguments();
  bool EndsTuple(bool conditional) const;

  ExpressionPtr Node(ExpressionKind kind, int line, std::vector<ExpressionPtr> operands);
  ExpressionPtr Binary(ExpressionKind kind, ExpressionPtr left, ExpressionPtr right);
  ExpressionPtr Arithmetic(Operator op, ExpressionPtr left, ExpressionPtr right);
  // Sets the depth from the operands and arguments.
  ExpressionPtr Measured(ExpressionPtr node) const;

  TokenReader& reader_;
};

}  // namespace thermocline::jinja
