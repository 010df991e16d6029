// What the lexer leaves of text around tags, and how it cuts expressions.
#include "runtime/text/jinja/lexer.h"

#include <gtest/gtest.h>

#include "tests/text/jinja/rendering.h"

namespace thermocline::jinja {
namespace {

// Returns the tokens as one text: kinds as letters, contents behind them.
std::string Tokens(const std::string& source) {
  constexpr std::string_view kLetters = "T{}<>nsif.$";
  std::string text;
  for (const Token& token : Tokenize(source, {})) {
    if (!text.empty()) text += ' ';
    text += kLetters[static_cast<size_t>(token.kind)];
    text += token.text;
  }
  return text;
}

TEST(JinjaLexer, CutsTextAndExpressions) {
  EXPECT_EQ(Tokens("a{{ b }}c"), "Ta { nb } Tc $");
  EXPECT_EQ(Tokens("{% if a<=1.5e3 %}"), "< nif na .<= f1.5e3 > $");
  EXPECT_EQ(Tokens("{{ 1_000 ** 0x1F // 'a\\'b' }}"), "{ i1000 .** i0x1F .// sa'b } $");
  EXPECT_EQ(Tokens("{{ a.0.1 }}"), "{ na .. i0 .. i1 } $");
  EXPECT_EQ(Tokens(""), "$");
}

TEST(JinjaLexer, BracesWithinExpressionsDoNotEndThem) {
  EXPECT_EQ(Tokens("{{ {'a':{}}}}"), "{ .{ sa .: .{ .} .} } $");
}

TEST(JinjaLexer, StripsAsTheSignsSay) {
  EXPECT_EQ(Tokens("a \n {{- b -}} \n c"), "Ta { nb } Tc $");
  EXPECT_EQ(Tokens("a \n {#- b -#} \n c"), "Ta Tc $");
  // trim_blocks takes the newline behind a block, lstrip_blocks the blanks before one.
  EXPECT_EQ(Tokens("a\n  {% b %}\nc"), "Ta\n < nb > Tc $");
  EXPECT_EQ(Tokens("a\n  {%+ b +%}\nc"), "Ta\n   < nb > T\nc $");
  EXPECT_EQ(Tokens("a {% b %}\n\nc"), "Ta  < nb > T\nc $");
  EXPECT_EQ(Tokens("  {{ b }}\nc"), "T   { nb } T\nc $");
}

TEST(JinjaLexer, RawTextAndTheLastNewline) {
  EXPECT_EQ(Tokens("{% raw %}{{ a }}{% endraw %}"), "T{{ a }} $");
  EXPECT_EQ(Tokens("a\r\nb\r\n"), "Ta\nb $");
  EXPECT_EQ(Tokens("a\n\n"), "Ta\n $");
}

TEST(JinjaLexer, CountsLines) {
  const std::vector<Token> tokens = Tokenize("a\nb{{ c\n+ d }}\n{% e %}", {});
  EXPECT_EQ(tokens[2].line, 2);  // c
  EXPECT_EQ(tokens[3].line, 3);  // +
  EXPECT_EQ(tokens[7].line, 4);  // {%
}

TEST(JinjaLexer, SaysWhatIsOpen) {
  EXPECT_EQ(RenderingError("\n{{ 'a"), "test.jinja: line 2: a string that does not end");
  EXPECT_EQ(RenderingError("{# a"), "test.jinja: line 1: a comment that does not end");
  EXPECT_EQ(RenderingError("{% raw %}a"), "test.jinja: line 1: a raw block that does not end");
  EXPECT_EQ(RenderingError("{{ a\n"), "test.jinja: line 1: a tag that does not end");
  EXPECT_EQ(RenderingError("{{ (a] }}"),
            "test.jinja: line 1: a bracket that closes none: found ']'");
  EXPECT_EQ(RenderingError("{{ a ! b }}"),
            "test.jinja: line 1: a character that no expression has: found '!'");
}

}  // namespace
}  // namespace thermocline::jinja
