// Charts and pages take any text and any numbers; what they draw is looked at by
// report_pages_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/pictures/html_page.h"
#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kHostile = "<script>alert('1')</script>\"&\x01";

TEST(PicturesTest, TextsAreEscaped) {
  EXPECT_EQ(EscapeMarkup(kHostile), "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp; ");
  HtmlPage page(kHostile, kHostile);
  page.AddTable(kHostile, kHostile, {{kHostile, kHostile}, {{kHostile, kHostile}}});
  page.AddPicture(kHostile, kHostile,
                  DrawBars({kHostile, {kHostile, 0, 1}, {kHostile}, {{kHostile, {1}, kHostile}}}) +
                      DrawLines({kHostile,
                                 {kHostile, 0, 1},
                                 {kHostile, 0, 1},
                                 {{kHostile, {}}},
                                 {{kHostile, 0, 0}}}) +
                      DrawHeat({kHostile, kHostile, kHostile, {kHostile}, {{1}}}),
                  {{kHostile}, {{kHostile}}});
  EXPECT_THAT(page.Text(), AllOf(Not(HasSubstr("<script>")), Not(HasSubstr("alert('")),
                                 HasSubstr("&lt;script&gt;")));
}

TEST(PicturesTest, LinesEndAtTheirAxes) {
  const std::string svg =
      DrawLines({"t", {"x", 0, 10}, {"y", 0, 100}, {{"a", {{0, 0}, {10, 100}, {20, 1000}}}}, {}});
  // From the lower left corner to the upper right one, where what lies beyond it is drawn, too.
  EXPECT_THAT(svg, HasSubstr("d=\"M64.0 306.0L692.0 32.0L692.0 32.0\""));
}

TEST(PicturesTest, AxesWithoutASpanAreDrawn) {
  const std::string svg = DrawBars({"t", {"x", 0, 0}, {"a"}, {{"row", {0}}}});
  EXPECT_THAT(svg, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
}

TEST(PicturesTest, BarsLieEndToEnd) {
  const std::string svg = DrawBars({"t", {"x", 0, 4}, {"a", "b"}, {{"row", {1, 3}}}});
  EXPECT_THAT(svg, AllOf(HasSubstr("class=\"bar s1\" x=\"44.8\""),
                         HasSubstr("class=\"bar s2\" x=\"184.1\"")));
}

}  // namespace
}  // namespace thermocline
