// The library's messages behind which the command line writes its flags and commands.
#include "tools/reports/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/tools/all_verbs.h"
#include "tools/verbs/cli_options.h"

namespace thermocline {
namespace {

// The flag as CLI11 gets it.
std::string AsParsed(std::string_view flag) {
  std::string text(flag);
  char* argv[] = {text.data(), text.data()};
  return NormaliseArguments(2, argv).front();
}

TEST(Messages, EverySettingIsAFlagOfAVerb) {
  CLI::App app("test", "thermocline");
  AddAllVerbs(app);
  const auto verbs = app.get_subcommands([](const CLI::App*) { return true; });
  for (const SettingInfo& info : kSettings) {
    const std::string flag = AsParsed(FlagOf(info.setting));
    EXPECT_TRUE(std::ranges::any_of(
        verbs, [&](CLI::App* verb) { return verb->get_option_no_throw(flag) != nullptr; }))
        << info.name << ": " << flag;
    for (CLI::App* verb : verbs) {
      const std::string own(FlagOf(info.setting, verb->get_name()));
      if (own == FlagOf(info.setting)) continue;
      EXPECT_NE(verb->get_option_no_throw(own), nullptr) << verb->get_name() << " " << own;
    }
  }
}

TEST(Messages, SettingsHaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const SettingInfo& info : kSettings) {
    EXPECT_FALSE(info.name.empty());
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
  }
}

TEST(Messages, EveryJobIsAVerb) {
  CLI::App app("test", "thermocline");
  AddAllVerbs(app);
  for (size_t i = 0; i < kJobCount; ++i) {
    const std::string verb(VerbOf(static_cast<Job>(i)));
    EXPECT_NO_THROW(app.get_subcommand(verb)) << verb;
  }
}

TEST(Messages, FlagsAndCommandsStandBehindTheMessage) {
  EXPECT_EQ(ErrorText(Error({.path = "p", .what = "w", .hint = "h"})), "p: w; h");
  EXPECT_EQ(ErrorText(Error({.what = "w", .settings = {{Setting::kContextSize}}})), "w (-c)");
  EXPECT_EQ(ErrorText(Error({.what = "w",
                             .settings = {{Setting::kCacheType, "f16"}, {Setting::kThreads}},
                             .jobs = {Job::kProfile, Job::kPlace}})),
            "w (`thermocline profile`, `thermocline place`, --cache-type f16, -t)");
}

TEST(Messages, AFlagIsThatOfTheVerbThatRuns) {
  const Error error({.what = "w", .settings = {{Setting::kPredictorType, "F16"}}});
  EXPECT_EQ(ErrorText(error, "predictor"), "w (--type F16)");
  EXPECT_EQ(ErrorText(error, "synth"), "w (--predictor-type F16)");
  EXPECT_EQ(ErrorText(error), "w (--type F16)");
}

TEST(Messages, ALongMessageKeepsItsFlags) {
  const Error error({.what = std::string(50000, 'w'), .settings = {{Setting::kThreads}}});
  EXPECT_THAT(ErrorText(error), testing::EndsWith("... (-t)"));
}

TEST(Messages, NotesAreAsErrors) {
  EXPECT_EQ(NoteText({}), "");
  EXPECT_EQ(NoteText({.text = "the GPU holds little",
                      .settings = {{Setting::kVramBudget}},
                      .jobs = {Job::kProfile}}),
            "the GPU holds little (`thermocline profile`, --vram)");
}

}  // namespace
}  // namespace thermocline
