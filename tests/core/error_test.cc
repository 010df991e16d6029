#include "runtime/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

std::string Message(const ErrorInfo& info) { return Error(info).what(); }

TEST(Error, Messages) {
  EXPECT_EQ(Message({.what = "w"}), "w");
  EXPECT_EQ(Message({.path = "p", .what = "w"}), "p: w");
  EXPECT_EQ(Message({.path = "p", .what = "w", .expected = "e"}), "p: w: expected e");
  EXPECT_EQ(Message({.path = "p", .what = "w", .found = "f"}), "p: w: found f");
  EXPECT_EQ(Message({.path = "p", .what = "w", .expected = "e", .found = "f", .hint = "h"}),
            "p: w: expected e, found f; h");
  EXPECT_EQ(Error({.what = "w", .hint = "h"}).info().hint, "h");
  // Settings and jobs are for who prints the message.
  EXPECT_EQ(Message({.what = "w", .settings = {{Setting::kThreads, "2"}}, .jobs = {Job::kProfile}}),
            "w");
}

TEST(Error, IsOneLineWithoutControlCharacters) {
  EXPECT_EQ(Message({.path = "a\nb", .what = "c\rd\te", .found = "\x1b[31m\x7f"}),
            "a\\x0ab: c\\x0dd\\x09e: found \\x1b[31m\\x7f");
}

TEST(Error, LongTextsAreCut) {
  const std::string text = Message({.path = std::string(5000, 'p'), .what = "what is wrong"});
  EXPECT_LT(text.size(), 500U);
  EXPECT_THAT(text, testing::HasSubstr("p...: what is wrong"));
  EXPECT_LT(Message({.what = std::string(50000, 'w')}).size(), 2100U);
}

TEST(Printable, KeepsText) {
  EXPECT_EQ(Printable("plain text"), "plain text");
  EXPECT_EQ(Printable("\xc3\xa9 \xe9\x9b\xaa \xf0\x9f\x98\x80"),
            "\xc3\xa9 \xe9\x9b\xaa \xf0\x9f\x98\x80");
  EXPECT_EQ(Printable(""), "");
}

TEST(Printable, EscapesWhatIsNotText) {
  EXPECT_EQ(Printable(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(Printable("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(Printable("\x80"), "\\x80");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b");  // CSI, which a terminal obeys
  EXPECT_EQ(Printable("\xc2\xa0"), "\xc2\xa0");
  EXPECT_EQ(Printable("\xc0\xaf"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(Printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");  // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(Printable("\xe9\x9b"), "\\xe9\\x9b");  // cut short
  EXPECT_EQ(Printable("\xe9z"), "\\xe9z");
}

TEST(Printable, TwiceIsOnce) {
  const std::string once = Printable("a\n\xff\xc3\xa9");
  EXPECT_EQ(Printable(once), once);
}

TEST(Printable, CutsBetweenCharacters) {
  EXPECT_EQ(Printable("abcdef", 3), "abc...");
  EXPECT_EQ(Printable("abc", 3), "abc");
  EXPECT_EQ(Printable("\xc3\xa9\xc3\xa9\xc3\xa9", 3), "\xc3\xa9\xc3\xa9...");
}

TEST(CheckDeathTest, SaysWhere) {
  const int two = 2;
  EXPECT_DEATH(CHECK(two == 3), "internal error at .*error_test.cc:[0-9]+: CHECK\\(two == 3\\)");
  CHECK(two == 2);
}

TEST(Interrupt, CountsRequests) {
  ClearInterrupt();
  EXPECT_FALSE(InterruptRequested());
  EXPECT_NO_THROW(ThrowIfInterrupted());
  EXPECT_EQ(RequestInterrupt(), 1);
  EXPECT_EQ(RequestInterrupt(), 2);
  EXPECT_TRUE(InterruptRequested());
  EXPECT_THROW(ThrowIfInterrupted(), Interrupted);
  ClearInterrupt();
  EXPECT_FALSE(InterruptRequested());
}

}  // namespace
}  // namespace thermocline
