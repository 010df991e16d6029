// Precedence, seen by what expressions give, and what is not well-formed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/jinja/rendering.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::string Printed(const std::string& expression) { return Rendered("{{ " + expression + " }}"); }

TEST(JinjaParser, Precedence) {
  EXPECT_EQ(Printed("1 + 2 * 3"), "7");
  EXPECT_EQ(Printed("2 ** 3 ** 2"), "64") << "from the left, as in jinja2";
  EXPECT_EQ(Printed("-2 ** 2"), "4") << "the sign binds more tightly, as in jinja2";
  EXPECT_EQ(Printed("1 ~ 2 * 3"), "16");
  EXPECT_EQ(Printed("not 1 == 2"), "True");
  EXPECT_EQ(Printed("true or false and false"), "True");
  EXPECT_EQ(Printed("1 < 2 < 3"), "True");
  EXPECT_EQ(Printed("1 if 0 else 2 if 0 else 3"), "3");
  EXPECT_EQ(Printed("-3 | abs"), "3");
  EXPECT_EQ(Printed("3 not in [1, 2] and 1 in [1]"), "True");
  EXPECT_EQ(Printed("x is defined or 1 is odd"), "True");
  EXPECT_EQ(Printed("'a' 'b'.upper()"), "AB");
}

TEST(JinjaParser, SaysWhatItExpects) {
  EXPECT_EQ(RenderingError("{% if a %}\nb"),
            "test.jinja: line 2: the template is not well-formed: expected 'endif', found the "
            "template's end");
  EXPECT_EQ(RenderingError("{% for a on b %}"),
            "test.jinja: line 1: the template is not well-formed: expected 'in', found 'on'");
  EXPECT_EQ(RenderingError("{{ a b }}"),
            "test.jinja: line 1: the template is not well-formed: expected '}}', found 'b'");
  EXPECT_EQ(RenderingError("{{ }}"),
            "test.jinja: line 1: the template is not well-formed: expected an expression, found "
            "'}}'");
  EXPECT_EQ(RenderingError("{% fly %}"), "test.jinja: line 1: no statement begins with 'fly'");
  EXPECT_EQ(RenderingError("{% endif %}"), "test.jinja: line 1: no statement begins with 'endif'");
  EXPECT_THAT(RenderingError("{{ 99999999999999999999 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(RenderingError("{% break %}"), HasSubstr("outside of loops"));
  EXPECT_THAT(RenderingError("{% for a in b recursive %}{% endfor %}"), HasSubstr("recursive"));
  EXPECT_THAT(RenderingError("{% macro m(a=1, b) %}{% endmacro %}"), HasSubstr("default"));
}

TEST(JinjaParser, ReadsNoOtherFiles) {
  for (const char* word : {"include", "import", "extends", "from", "block"}) {
    EXPECT_THAT(RenderingError("{% " + std::string(word) + " 'a.jinja' %}"),
                HasSubstr("'" + std::string(word) + "' reads other templates"));
  }
}

}  // namespace
}  // namespace thermocline
