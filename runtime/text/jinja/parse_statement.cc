#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "runtime/text/jinja/parser.h"

namespace thermocline::jinja {
namespace {

class StatementParser {
 public:
  explicit StatementParser(TokenReader& reader) : reader_(reader), expressions_(reader) {}

  Body ParseAll();

 private:
  using Words = std::initializer_list<std::string_view>;

  // Parses up to a tag that begins with one of `ends`, whose first word is then current.
  Body ParseUntil(Words ends);
  // The same, with the end of the tag before it, and takes the end tag's word and its own end.
  Body ParseBlock(std::string_view end);
  Statement New(StatementKind kind) const;
  Statement ParseTag(const Token& word);
  Statement ParseIf();
  Statement ParseFor();
  Statement ParseSet();
  Statement ParseWith();
  Statement ParseMacro();
  Statement ParseCallBlock();
  Statement ParseFilterBlock();
  Statement ParseJump(StatementKind kind);
  std::vector<Parameter> ParseParameters();
  void EndTag() { reader_.Expect(TokenKind::kBlockEnd, "'%}'"); }
  ExpressionPtr BlockText() const;

  TokenReader& reader_;
  ExpressionParser expressions_;
  int loop_depth_ = 0;
};

Statement StatementParser::New(StatementKind kind) const {
  Statement statement;
  statement.kind = kind;
  statement.line = reader_.current().line;
  return statement;
}

ExpressionPtr StatementParser::BlockText() const {
  return ExpressionParser::New(ExpressionKind::kBlockText, reader_.current().line);
}

Body StatementParser::ParseAll() {
  Body body = ParseUntil({});
  if (!reader_.Is(TokenKind::kEnd)) reader_.FailExpected("the template's end");
  return body;
}

Body StatementParser::ParseUntil(Words ends) {
  reader_.Enter();
  Body body;
  while (!reader_.Is(TokenKind::kEnd)) {
    if (reader_.Is(TokenKind::kText)) {
      Statement statement = New(StatementKind::kText);
      statement.text = reader_.Take().text;
      body.push_back(std::move(statement));
    } else if (reader_.Is(TokenKind::kPrintBegin)) {
      reader_.Take();
      Statement statement = New(StatementKind::kPrint);
      statement.value = expressions_.ParseTuple();
      reader_.Expect(TokenKind::kPrintEnd, "'}}'");
      body.push_back(std::move(statement));
    } else {
      reader_.Expect(TokenKind::kBlockBegin, "a tag");
      if (!reader_.Is(TokenKind::kName)) reader_.FailExpected("the name of a statement");
      const bool ends_here =
          std::any_of(ends.begin(), ends.end(), [&](auto word) { return reader_.IsName(word); });
      if (ends_here) {
        reader_.Leave();
        return body;
      }
      body.push_back(ParseTag(reader_.Take()));
    }
  }
  if (ends.size() > 0) reader_.FailExpected(fmt::format("'{}'", *ends.begin()));
  reader_.Leave();
  return body;
}

Body StatementParser::ParseBlock(std::string_view end) {
  EndTag();
  Body body = ParseUntil({end});
  reader_.ExpectName(end);
  return body;
}

Statement StatementParser::ParseTag(const Token& word) {
  if (word.text == "if") return ParseIf();
  if (word.text == "for") return ParseFor();
  if (word.text == "set") return ParseSet();
  if (word.text == "with") return ParseWith();
  if (word.text == "macro") return ParseMacro();
  if (word.text == "call") return ParseCallBlock();
  if (word.text == "filter") return ParseFilterBlock();
  if (word.text == "break") return ParseJump(StatementKind::kBreak);
  if (word.text == "continue") return ParseJump(StatementKind::kContinue);
  if (word.text == "generation") {
    // What the model wrote, as transformers marks it for training. It is text like any other.
    Statement statement = New(StatementKind::kWith);
    statement.body = ParseBlock("endgeneration");
    EndTag();
    return statement;
  }
  constexpr std::string_view kOtherFiles[] = {"include", "import", "from", "extends", "block"};
  if (std::find(std::begin(kOtherFiles), std::end(kOtherFiles), word.text) !=
      std::end(kOtherFiles)) {
    throw Failure({.what = fmt::format("'{}' reads other templates, which a chat template may not",
                                       word.text)},
                  word.line);
  }
  throw Failure({.what = fmt::format("no statement begins with '{}'", word.text)}, word.line);
}

Statement StatementParser::ParseIf() {
  Statement statement = New(StatementKind::kIf);
  Branch branch;
  branch.condition = expressions_.ParseTuple(false);
  while (true) {
    EndTag();
    branch.body = ParseUntil({"endif", "elif", "else"});
    const bool was_else = branch.condition == nullptr;
    statement.branches.push_back(std::move(branch));
    branch = {};
    if (was_else || reader_.IsName("endif")) break;
    if (reader_.Take().text == "elif") branch.condition = expressions_.ParseTuple(false);
  }
  reader_.ExpectName("endif");
  EndTag();
  return statement;
}

Statement StatementParser::ParseFor() {
  Statement statement = New(StatementKind::kFor);
  statement.target = expressions_.ParseTarget(false);
  reader_.ExpectName("in");
  statement.value = expressions_.ParseTuple(false);
  if (reader_.TakeName("if")) statement.condition = expressions_.Parse();
  if (reader_.IsName("recursive")) {
    throw Failure({.what = "recursive loops are not supported"}, reader_.current().line);
  }
  EndTag();
  ++loop_depth_;
  statement.body = ParseUntil({"endfor", "else"});
  --loop_depth_;
  if (reader_.TakeName("else")) {
    EndTag();
    statement.else_body = ParseUntil({"endfor"});
  }
  reader_.ExpectName("endfor");
  EndTag();
  return statement;
}

Statement StatementParser::ParseSet() {
  Statement statement = New(StatementKind::kSet);
  statement.target = expressions_.ParseTarget(true);
  if (reader_.TakeOperator("=")) {
    statement.value = expressions_.ParseTuple();
  } else {
    statement.kind = StatementKind::kSetBlock;
    statement.value = expressions_.ParseFilters(BlockText(), false);
    statement.body = ParseBlock("endset");
  }
  EndTag();
  return statement;
}

Statement StatementParser::ParseWith() {
  Statement statement = New(StatementKind::kWith);
  while (!reader_.Is(TokenKind::kBlockEnd)) {
    ExpressionPtr target = expressions_.ParseTarget(false);
    reader_.ExpectOperator("=");
    statement.assignments.emplace_back(std::move(target), expressions_.Parse());
    if (!reader_.TakeOperator(",")) break;
  }
  statement.body = ParseBlock("endwith");
  EndTag();
  return statement;
}

std::vector<Parameter> StatementParser::ParseParameters() {
  std::vector<Parameter> parameters;
  reader_.ExpectOperator("(");
  while (!reader_.IsOperator(")")) {
    Parameter parameter;
    parameter.name = reader_.TakeIdentifier("the name of a parameter");
    if (reader_.TakeOperator("=")) {
      parameter.default_value = expressions_.Parse();
    } else if (!parameters.empty() && parameters.back().default_value != nullptr) {
      reader_.FailExpected("'=', as the parameter before has a default");
    }
    parameters.push_back(std::move(parameter));
    if (!reader_.TakeOperator(",")) break;
  }
  reader_.ExpectOperator(")");
  return parameters;
}

Statement StatementParser::ParseMacro() {
  Statement statement = New(StatementKind::kMacro);
  statement.text = reader_.TakeIdentifier("the name of a macro");
  statement.parameters = ParseParameters();
  const bool outer_varargs = std::exchange(reader_.saw_varargs, false);
  const bool outer_kwargs = std::exchange(reader_.saw_kwargs, false);
  const int outer_loops = std::exchange(loop_depth_, 0);
  statement.body = ParseBlock("endmacro");
  loop_depth_ = outer_loops;
  statement.takes_varargs = std::exchange(reader_.saw_varargs, outer_varargs);
  statement.takes_kwargs = std::exchange(reader_.saw_kwargs, outer_kwargs);
  EndTag();
  return statement;
}

Statement StatementParser::ParseCallBlock() {
  Statement statement = New(StatementKind::kCallBlock);
  statement.text = "caller";
  if (reader_.IsOperator("(")) statement.parameters = ParseParameters();
  statement.value = expressions_.Parse();
  if (statement.value->kind != ExpressionKind::kCall) {
    throw Failure({.what = "a call block that calls nothing"}, statement.line);
  }
  const int outer_loops = std::exchange(loop_depth_, 0);
  statement.body = ParseBlock("endcall");
  loop_depth_ = outer_loops;
  EndTag();
  return statement;
}

Statement StatementParser::ParseFilterBlock() {
  Statement statement = New(StatementKind::kFilterBlock);
  statement.value = expressions_.ParseFilters(BlockText(), true);
  const int outer_loops = std::exchange(loop_depth_, 0);
  statement.body = ParseBlock("endfilter");
  loop_depth_ = outer_loops;
  EndTag();
  return statement;
}

Statement StatementParser::ParseJump(StatementKind kind) {
  Statement statement = New(kind);
  if (loop_depth_ == 0) {
    throw Failure({.what = "a break or continue outside of loops"}, statement.line);
  }
  EndTag();
  return statement;
}

}  // namespace

Body ParseTemplate(const std::string& source, const Limits& limits) {
  TokenReader reader(Tokenize(source, limits), limits);
  return StatementParser(reader).ParseAll();
}

}  // namespace thermocline::jinja
