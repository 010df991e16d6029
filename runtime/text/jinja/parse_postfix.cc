// What follows a value: attributes, subscripts, calls, filters and tests.
#include "runtime/text/jinja/parser.h"

namespace thermocline::jinja {

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr value) {
  while (true) {
    if (reader_.IsOperator(".")) {
      value = ParseAttribute(std::move(value));
    } else if (reader_.IsOperator("[")) {
      value = ParseSubscript(std::move(value));
    } else if (reader_.IsOperator("(")) {
      value = ParseCall(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::ParseFiltersAndTests(ExpressionPtr value) {
  while (true) {
    if (reader_.IsOperator("|")) {
      value = ParseFilters(std::move(value), false);
    } else if (reader_.IsName("is")) {
      value = ParseTest(std::move(value));
    } else if (reader_.IsOperator("(")) {
      value = ParseCall(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::ParseAttribute(ExpressionPtr value) {
  const int line = reader_.Take().line;
  std::vector<ExpressionPtr> operands;
  operands.push_back(std::move(value));
  if (reader_.Is(TokenKind::kInteger)) {
    operands.push_back(ParseNumber());
    return Node(ExpressionKind::kSubscript, line, std::move(operands));
  }
  const std::string name = reader_.TakeIdentifier("a name behind '.'");
  ExpressionPtr node = Node(ExpressionKind::kAttribute, line, std::move(operands));
  node->name = name;
  return node;
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr value) {
  const int line = reader_.Take().line;
  std::vector<ExpressionPtr> operands;
  operands.push_back(std::move(value));
  const auto at_end = [&] { return reader_.IsOperator(":") || reader_.IsOperator("]"); };
  const auto parse_part = [&] { return at_end() ? nullptr : Parse(); };
  ExpressionPtr first = reader_.IsOperator(":") ? nullptr : ParseTuple();
  const bool is_slice = reader_.IsOperator(":");
  operands.push_back(std::move(first));
  if (is_slice) {
    reader_.Take();
    operands.push_back(parse_part());
    operands.push_back(reader_.TakeOperator(":") ? parse_part() : nullptr);
  }
  reader_.ExpectOperator("]");
  return Node(is_slice ? ExpressionKind::kSlice : ExpressionKind::kSubscript, line,
              std::move(operands));
}

std::vector<Argument> ExpressionParser::ParseArguments() {
  reader_.ExpectOperator("(");
  std::vector<Argument> arguments;
  while (!reader_.IsOperator(")")) {
    Argument argument;
    if (reader_.TakeOperator("**")) {
      argument.spread = Spread::kDict;
    } else if (reader_.TakeOperator("*")) {
      argument.spread = Spread::kList;
    } else if (reader_.Is(TokenKind::kName) && reader_.next().kind == TokenKind::kOperator &&
               reader_.next().text == "=") {
      argument.name = reader_.Take().text;
      reader_.Take();
    }
    argument.value = Parse();
    arguments.push_back(std::move(argument));
    if (!reader_.TakeOperator(",")) break;
  }
  reader_.ExpectOperator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr value) {
  ExpressionPtr node = New(ExpressionKind::kCall, reader_.current().line);
  node->operands.push_back(std::move(value));
  node->arguments = ParseArguments();
  return Measured(std::move(node));
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr value, bool first_is_named) {
  while (first_is_named || reader_.TakeOperator("|")) {
    first_is_named = false;
    ExpressionPtr node = New(ExpressionKind::kFilter, reader_.current().line);
    node->name = reader_.TakeIdentifier("the name of a filter");
    node->operands.push_back(std::move(value));
    if (reader_.IsOperator("(")) node->arguments = ParseArguments();
    value = Measured(std::move(node));
  }
  return value;
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr value) {
  const int line = reader_.Take().line;
  const bool negated = reader_.TakeName("not");
  ExpressionPtr node = New(ExpressionKind::kTest, line);
  node->name = reader_.TakeIdentifier("the name of a test");
  node->operands.push_back(std::move(value));
  const auto is_word = [&](std::string_view word) { return reader_.IsName(word); };
  // Words that go on with the expression around the test; any other name is its argument.
  const bool goes_on = is_word("else") || is_word("or") || is_word("and") || is_word("if") ||
                       is_word("is") || is_word("in") || is_word("not") || is_word("recursive");
  if (reader_.IsOperator("(")) {
    node->arguments = ParseArguments();
  } else if ((reader_.Is(TokenKind::kName) && !goes_on) || reader_.Is(TokenKind::kString) ||
             reader_.Is(TokenKind::kInteger) || reader_.Is(TokenKind::kFloat) ||
             reader_.IsOperator("[") || reader_.IsOperator("{")) {
    reader_.Enter();
    Argument argument;
    argument.value = ParsePostfix(ParsePrimary());
    reader_.Leave();
    node->arguments.push_back(std::move(argument));
  }
  node = Measured(std::move(node));
  if (!negated) return node;
  std::vector<ExpressionPtr> operands;
  operands.push_back(std::move(node));
  return Node(ExpressionKind::kNot, line, std::move(operands));
}

}  // namespace thermocline::jinja
