// Every option that takes a number refuses what is none, and what is out of range, as wrong usage
// that shows what was typed and what is allowed.
#include "tools/verbs/number_option.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tests/tools/all_verbs.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Returns the message of a parse that must fail as wrong usage. arguments: as typed.
std::string UsageError(CLI::App& app, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(NumberOptions, NoneTakesWhatIsNoNumber) {
  const std::set<std::string> with_numbers = {"N", "X", "SHARE", "RATE", "SIZE", "SKEW"};
  CLI::App app;
  AddAllVerbs(app);
  int n_options = 0;
  for (CLI::App* verb : app.get_subcommands({})) {
    for (const CLI::Option* option : verb->get_options()) {
      const std::string type = option->get_type_name();
      // What CLI11 parses itself takes '' for 0 and cuts what is out of range.
      for (const char* unchecked : {"INT", "UINT", "FLOAT"}) {
        EXPECT_NE(type, unchecked) << verb->get_name() << " " << option->get_name();
      }
      if (with_numbers.count(type) == 0) continue;
      ++n_options;
      for (const std::string text :
           {"", " ", "nan", "-nan", "inf", "1x", "1 2", "0x10", "1e999", "--"}) {
        SCOPED_TRACE(verb->get_name() + " " + option->get_name() + " '" + text + "'");
        const std::string flag = option->get_name() + "=" + text;
        const std::string message =
            text.empty() ? UsageError(app, {verb->get_name(), option->get_name(), text})
                         : UsageError(app, {verb->get_name(), flag});
        EXPECT_THAT(message, AllOf(HasSubstr(option->get_name()), HasSubstr("'" + text + "'")));
      }
    }
  }
  EXPECT_GT(n_options, 50);
}

TEST(NumberOptions, SayWhatIsAllowed) {
  CLI::App app;
  AddAllVerbs(app);
  const auto message = [&](const std::string& verb, const std::string& flag,
                           const std::string& text) {
    return UsageError(app, {verb, flag, text});
  };
  EXPECT_THAT(message("run", "-t", "1025"),
              HasSubstr("--threads: expected a whole number from 0 to 1024, found '1025'"));
  EXPECT_THAT(message("run", "--top-k", "99999999999"),
              HasSubstr("expected a whole number from 0 to 2147483647, found '99999999999'"));
  EXPECT_THAT(message("run", "--seed", "9223372036854775808"),
              HasSubstr("expected a whole number from -1 to 9223372036854775807"));
  EXPECT_THAT(message("synth", "--seed", "-1"),
              HasSubstr("expected a whole number from 0 to 18446744073709551615, found '-1'"));
  EXPECT_THAT(message("run", "--temp", "-0.5"),
              HasSubstr("expected a number from 0 up, found '-0.5'"));
  EXPECT_THAT(message("run", "--top-p", "0"),
              HasSubstr("expected a number above 0 and at most 1, found '0'"));
  EXPECT_THAT(message("run", "--min-p", "1.01"), HasSubstr("expected a number from 0 to 1"));
  EXPECT_THAT(message("run", "--repeat-penalty", "0"), HasSubstr("expected a number above 0"));
  EXPECT_THAT(message("profile", "--heldout-fraction", "1"),
              HasSubstr("expected a number above 0 and below 1, found '1'"));
  EXPECT_THAT(message("predictor", "--recall", "nan"),
              HasSubstr("expected a number from 0 to 1, found 'nan'"));
  EXPECT_THAT(message("predictor", "--learning-rate", "nan"), HasSubstr("from 1e-06 to 1"));
}

TEST(NumberOptions, GiveTheNumber) {
  CLI::App app;
  int whole = 0;
  uint64_t large = 0;
  double real = 0;
  AddNumberOption(app, "--whole", &whole, {.least = -5, .most = 5}, "");
  AddNumberOption(app, "--large", &large, {}, "");
  AddNumberOption(app, "--real", &real, {.least = 0}, "");
  app.parse(
      std::vector<std::string>{"--real=2.5e-3", "--large=18446744073709551615", "-5", "--whole"});
  EXPECT_EQ(whole, -5);
  EXPECT_EQ(large, UINT64_MAX);
  EXPECT_EQ(real, 2.5e-3);
}

TEST(NumberOptions, WrongUsageEndsTheProgramWithTwo) {
  const ToolResult result = RunTool({"run", "-m", "x", "-p", "a", "--temp", ""});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("--temp: expected a number from 0 up, found ''"));
}

}  // namespace
}  // namespace thermocline
