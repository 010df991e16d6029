// What the terminal gets to see: the progress bar, wrapped help, arguments made ready.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/help_formatter.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ProgressBarTest : public testing::Test {
 protected:
  ProgressBar Make(bool terminal, int columns = 80) {
    return ProgressBar({.terminal = terminal,
                        .columns = columns,
                        .write = [this](const std::string& text) { written_.push_back(text); },
                        .now = [this] { return now_; }});
  }
  void Pass(double seconds) {
    now_ += std::chrono::duration_cast<ProgressBar::Clock::duration>(
        std::chrono::duration<double>(seconds));
  }

  ProgressBar::Clock::time_point now_{};
  std::vector<std::string> written_;
};

TEST_F(ProgressBarTest, ShortWorkShowsNothing) {
  ProgressBar bar = Make(true);
  for (uint64_t i = 0; i <= 10; ++i) {
    bar.Update("work", i, 10);
    Pass(0.01);
  }
  EXPECT_THAT(written_, ElementsAre());
}

TEST_F(ProgressBarTest, DrawsABarAndCleansItUp) {
  ProgressBar bar = Make(true);
  bar.Update("work", 0, 100);
  Pass(2);
  bar.Update("work", 25, 100);
  ASSERT_EQ(written_.size(), 1U);
  EXPECT_EQ(written_[0],
            "\r\x1b[Kwork [######..................]  25 %  25/100  12.5/s  0:06 left");
  Pass(0.01);
  bar.Update("work", 26, 100);
  EXPECT_EQ(written_.size(), 1U) << "not redrawn so soon";
  Pass(4);
  bar.Update("work", 100, 100);
  EXPECT_EQ(written_.back(), "\r\x1b[K");
  bar.Clear();
  EXPECT_EQ(written_.size(), 3U);
}

TEST_F(ProgressBarTest, FitsTheTerminal) {
  ProgressBar bar = Make(true, 20);
  bar.Update("a label that is rather long", 0, 100);
  Pass(1);
  bar.Update("a label that is rather long", 50, 100);
  EXPECT_EQ(written_[0].size(), 19 + std::string("\r\x1b[K").size());
}

TEST_F(ProgressBarTest, PlainLinesAtEveryTenth) {
  ProgressBar bar = Make(false);
  for (uint64_t i = 0; i <= 100; ++i) {
    bar.Update("work", i, 100);
    Pass(0.1);
  }
  ASSERT_EQ(written_.size(), 11U);
  EXPECT_EQ(written_[0], "work: 5 %  5/100  10.0/s  0:10 left\n");
  EXPECT_THAT(written_[1], HasSubstr("work: 10 %"));
  EXPECT_EQ(written_[10], "work: 100 %  100/100  0:10\n");
}

TEST_F(ProgressBarTest, EachPieceOfWorkIsTimedByItself) {
  ProgressBar bar = Make(false);
  bar.Update("first", 0, 10);
  Pass(5);
  bar.Update("second", 0, 10);
  bar.Update("second", 5, 10);
  EXPECT_THAT(written_, ElementsAre());
  Pass(1);
  bar.Update("second", 6, 10);
  EXPECT_THAT(written_, ElementsAre("second: 60 %  6/10  6.0/s  0:01 left\n"));
}

TEST(WrapTextTest, CutsAtSpaces) {
  EXPECT_EQ(WrapText("one two three four", 9, 2), "one two\n  three\n  four");
  EXPECT_EQ(WrapText("a-word-longer-than-the-line b", 5, 0), "a-word-longer-than-the-line\nb");
  EXPECT_EQ(WrapText("", 5, 0), "");
}

TEST(ArgumentsTest, KnowsTheShortSpellingOfGpuLayers) {
  std::string program = "thermocline";
  std::string ngl = "-ngl";
  std::string ten = "10";
  char* argv[] = {program.data(), ngl.data(), ten.data()};
  EXPECT_THAT(NormaliseArguments(3, argv), ElementsAre("--gpu-layers", "10"));
}

TEST(SizeOptionTest, TakesSizesAndNothingElse) {
  const auto parse = [](const std::string& text) {
    CLI::App app;
    uint64_t n_bytes = 0;
    AddSizeOption(app, "--vram", &n_bytes, "");
    app.parse({text, "--vram"});
    return n_bytes;
  };
  EXPECT_EQ(parse("8G"), 8ULL << 30);
  EXPECT_EQ(parse("1.5M"), 3ULL << 19);
  EXPECT_EQ(parse("0"), 0U);
  for (const char* bad : {"8X", "G", "-1G", "", "1e99T"}) {
    EXPECT_THROW(parse(bad), CLI::ParseError) << bad;
  }
}

}  // namespace
}  // namespace thermocline
