#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "runtime/text/jinja/parser.h"

namespace thermocline::jinja {

ExpressionPtr ExpressionParser::New(ExpressionKind kind, int line) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  return node;
}

ExpressionPtr ExpressionParser::Measured(ExpressionPtr node) const {
  for (const ExpressionPtr& operand : node->operands) {
    if (operand != nullptr) node->depth = std::max(node->depth, operand->depth + 1);
  }
  for (const Argument& argument : node->arguments) {
    node->depth = std::max(node->depth, argument.value->depth + 1);
  }
  // A chain like a.b.c.d nests, too, though it is not parsed by recursion.
  if (node->depth > reader_.limits().max_parse_depth) {
    throw Failure({.what = fmt::format("an expression nests more than {} levels deep",
                                       reader_.limits().max_parse_depth)},
                  node->line);
  }
  return node;
}

ExpressionPtr ExpressionParser::Node(ExpressionKind kind, int line,
                                     std::vector<ExpressionPtr> operands) {
  ExpressionPtr node = New(kind, line);
  node->operands = std::move(operands);
  return Measured(std::move(node));
}

ExpressionPtr ExpressionParser::Binary(ExpressionKind kind, ExpressionPtr left,
                                       ExpressionPtr right) {
  std::vector<ExpressionPtr> operands;
  const int line = left->line;
  operands.push_back(std::move(left));
  operands.push_back(std::move(right));
  return Node(kind, line, std::move(operands));
}

ExpressionPtr ExpressionParser::Arithmetic(Operator op, ExpressionPtr left, ExpressionPtr right) {
  ExpressionPtr node = Binary(ExpressionKind::kArithmetic, std::move(left), std::move(right));
  node->operators.push_back(op);
  return node;
}

bool ExpressionParser::EndsTuple(bool conditional) const {
  return reader_.Is(TokenKind::kPrintEnd) || reader_.Is(TokenKind::kBlockEnd) ||
         reader_.IsOperator(")") || reader_.IsOperator("=") || reader_.IsName("in") ||
         (!conditional && (reader_.IsName("if") || reader_.IsName("recursive")));
}

ExpressionPtr ExpressionParser::ParseTuple(bool conditional) {
  ExpressionPtr first = Parse(conditional);
  if (!reader_.IsOperator(",")) return first;
  const int line = first->line;
  std::vector<ExpressionPtr> items;
  items.push_back(std::move(first));
  while (reader_.TakeOperator(",") && !EndsTuple(conditional)) items.push_back(Parse(conditional));
  return Node(ExpressionKind::kTuple, line, std::move(items));
}

ExpressionPtr ExpressionParser::Parse(bool conditional) {
  reader_.Enter();
  ExpressionPtr value = ParseOr();
  while (conditional && reader_.TakeName("if")) {
    std::vector<ExpressionPtr> operands;
    const int line = value->line;
    operands.push_back(std::move(value));
    operands.push_back(ParseOr());
    operands.push_back(reader_.TakeName("else") ? Parse() : nullptr);
    value = Node(ExpressionKind::kConditional, line, std::move(operands));
  }
  reader_.Leave();
  return value;
}

ExpressionPtr ExpressionParser::ParseTarget(bool with_attribute) {
  reader_.Enter();
  ExpressionPtr target = ParseTargetItem(with_attribute);
  if (reader_.IsOperator(",")) {
    const int line = target->line;
    std::vector<ExpressionPtr> items;
    items.push_back(std::move(target));
    while (reader_.TakeOperator(",") && !EndsTuple(true)) items.push_back(ParseTargetItem(false));
    target = Node(ExpressionKind::kTuple, line, std::move(items));
  }
  reader_.Leave();
  return target;
}

ExpressionPtr ExpressionParser::ParseTargetItem(bool with_attribute) {
  if (reader_.TakeOperator("(")) {
    ExpressionPtr target = ParseTarget(false);
    reader_.ExpectOperator(")");
    return target;
  }
  ExpressionPtr name = New(ExpressionKind::kName, reader_.current().line);
  name->name = reader_.TakeIdentifier("a name");
  if (!with_attribute || !reader_.TakeOperator(".")) return name;
  const int line = name->line;
  std::vector<ExpressionPtr> operands;
  operands.push_back(std::move(name));
  ExpressionPtr attribute = Node(ExpressionKind::kAttribute, line, std::move(operands));
  attribute->name = reader_.TakeIdentifier("a name behind '.'");
  return attribute;
}

ExpressionPtr ExpressionParser::ParseOr() {
  ExpressionPtr left = ParseAnd();
  while (reader_.TakeName("or")) left = Binary(ExpressionKind::kOr, std::move(left), ParseAnd());
  return left;
}

ExpressionPtr ExpressionParser::ParseAnd() {
  ExpressionPtr left = ParseNot();
  while (reader_.TakeName("and")) left = Binary(ExpressionKind::kAnd, std::move(left), ParseNot());
  return left;
}

ExpressionPtr ExpressionParser::ParseNot() {
  const int line = reader_.current().line;
  if (!reader_.TakeName("not")) return ParseCompare();
  reader_.Enter();
  std::vector<ExpressionPtr> operands;
  operands.push_back(ParseNot());
  reader_.Leave();
  return Node(ExpressionKind::kNot, line, std::move(operands));
}

bool ExpressionParser::TakeComparison(Operator* op) {
  constexpr std::pair<std::string_view, Operator> kComparisons[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual},
  };
  for (const auto& [text, comparison] : kComparisons) {
    if (reader_.TakeOperator(text)) {
      *op = comparison;
      return true;
    }
  }
  if (reader_.TakeName("in")) {
    *op = Operator::kIn;
    return true;
  }
  const bool not_in = reader_.IsName("not") && reader_.next().kind == TokenKind::kName &&
                      reader_.next().text == "in";
  if (not_in) {
    reader_.Take();
    reader_.Take();
    *op = Operator::kNotIn;
  }
  return not_in;
}

ExpressionPtr ExpressionParser::ParseCompare() {
  ExpressionPtr first = ParseSum();
  Operator op{};
  if (!TakeComparison(&op)) return first;
  const int line = first->line;
  std::vector<ExpressionPtr> operands;
  std::vector<Operator> operators;
  operands.push_back(std::move(first));
  do {
    operators.push_back(op);
    operands.push_back(ParseSum());
  } while (TakeComparison(&op));
  ExpressionPtr node = Node(ExpressionKind::kCompare, line, std::move(operands));
  node->operators = std::move(operators);
  return node;
}

ExpressionPtr ExpressionParser::ParseSum() {
  ExpressionPtr left = ParseConcat();
  while (reader_.IsOperator("+") || reader_.IsOperator("-")) {
    const Operator op = reader_.Take().text == "+" ? Operator::kAdd : Operator::kSubtract;
    left = Arithmetic(op, std::move(left), ParseConcat());
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseConcat() {
  ExpressionPtr first = ParseProduct();
  if (!reader_.IsOperator("~")) return first;
  const int line = first->line;
  std::vector<ExpressionPtr> parts;
  parts.push_back(std::move(first));
  while (reader_.TakeOperator("~")) parts.push_back(ParseProduct());
  return Node(ExpressionKind::kConcat, line, std::move(parts));
}

ExpressionPtr ExpressionParser::ParseProduct() {
  constexpr std::pair<std::string_view, Operator> kProducts[] = {
      {"*", Operator::kMultiply},
      {"/", Operator::kDivide},
      {"//", Operator::kFloorDivide},
      {"%", Operator::kModulo},
  };
  ExpressionPtr left = ParsePower();
  while (true) {
    const auto* product =
        std::find_if(std::begin(kProducts), std::end(kProducts),
                     [&](const auto& candidate) { return reader_.TakeOperator(candidate.first); });
    if (product == std::end(kProducts)) return left;
    left = Arithmetic(product->second, std::move(left), ParsePower());
  }
}

ExpressionPtr ExpressionParser::ParsePower() {
  ExpressionPtr left = ParseUnary(true);
  while (reader_.TakeOperator("**")) {
    left = Arithmetic(Operator::kPower, std::move(left), ParseUnary(true));
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filters) {
  const int line = reader_.current().line;
  ExpressionPtr value;
  if (reader_.IsOperator("-") || reader_.IsOperator("+")) {
    const bool negative = reader_.Take().text == "-";
    reader_.Enter();
    std::vector<ExpressionPtr> operands;
    operands.push_back(ParseUnary(false));
    reader_.Leave();
    value = Node(negative ? ExpressionKind::kNegative : ExpressionKind::kPositive, line,
                 std::move(operands));
  } else {
    value = ParsePrimary();
  }
  value = ParsePostfix(std::move(value));
  return with_filters ? ParseFiltersAndTests(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  switch (reader_.current().kind) {
    case TokenKind::kName:
      return ParseName();
    case TokenKind::kString:
      return ParseStrings();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (reader_.IsOperator("(")) return ParseParentheses();
  if (reader_.IsOperator("[")) return ParseList();
  if (reader_.IsOperator("{")) return ParseDict();
  reader_.FailExpected("an expression");
}

ExpressionPtr ExpressionParser::ParseName() {
  const Token token = reader_.Take();
  ExpressionPtr node = New(ExpressionKind::kConstant, token.line);
  if (token.text == "true" || token.text == "True") {
    node->value = Value::Bool(true);
  } else if (token.text == "false" || token.text == "False") {
    node->value = Value::Bool(false);
  } else if (token.text == "none" || token.text == "None") {
    node->value = Value::None();
  } else {
    node->kind = ExpressionKind::kName;
    node->name = token.text;
    if (token.text == "varargs") reader_.saw_varargs = true;
    if (token.text == "kwargs") reader_.saw_kwargs = true;
  }
  return node;
}

ExpressionPtr ExpressionParser::ParseNumber() {
  const Token token = reader_.Take();
  ExpressionPtr node = New(ExpressionKind::kConstant, token.line);
  if (token.kind == TokenKind::kFloat) {
    node->value = Value::Float(std::strtod(token.text.c_str(), nullptr));
    return node;
  }
  const char base_letter = token.text.size() > 2 ? static_cast<char>(token.text[1] | 0x20) : '\0';
  const int base = base_letter == 'x' ? 16 : base_letter == 'o' ? 8 : base_letter == 'b' ? 2 : 10;
  int64_t number = 0;
  const char* begin = token.text.data() + (base == 10 ? 0 : 2);
  const char* end = token.text.data() + token.text.size();
  const auto parsed = std::from_chars(begin, end, number, base);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    throw Failure({.what = "an integer that does not fit 64 bits", .found = token.text},
                  token.line);
  }
  node->value = Value::Int(number);
  return node;
}

ExpressionPtr ExpressionParser::ParseStrings() {
  const int line = reader_.current().line;
  std::string text;
  while (reader_.Is(TokenKind::kString)) text += reader_.Take().text;
  ExpressionPtr node = New(ExpressionKind::kConstant, line);
  node->value = Value::Constant(std::move(text));
  return node;
}

ExpressionPtr ExpressionParser::ParseParentheses() {
  const int line = reader_.Take().line;
  ExpressionPtr value = reader_.IsOperator(")") ? New(ExpressionKind::kTuple, line) : ParseTuple();
  reader_.ExpectOperator(")");
  return value;
}

ExpressionPtr ExpressionParser::ParseList() {
  const int line = reader_.Take().line;
  std::vector<ExpressionPtr> items;
  while (!reader_.IsOperator("]")) {
    items.push_back(Parse());
    if (!reader_.TakeOperator(",")) break;
  }
  reader_.ExpectOperator("]");
  return Node(ExpressionKind::kList, line, std::move(items));
}

ExpressionPtr ExpressionParser::ParseDict() {
  const int line = reader_.Take().line;
  std::vector<ExpressionPtr> items;
  while (!reader_.IsOperator("}")) {
    items.push_back(Parse());
    reader_.ExpectOperator(":");
    items.push_back(Parse());
    if (!reader_.TakeOperator(",")) break;
  }
  reader_.ExpectOperator("}");
  return Node(ExpressionKind::kDict, line, std::move(items));
}

}  // namespace thermocline::jinja
