// The verbs `profile` and `place`, called as the command line calls them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "profiler/activations/profile_file.h"
#include "runtime/core/interrupt.h"
#include "runtime/placement/placement.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/rates/fixed_rates.h"
#include "tests/support/call_verb.h"
#include "tests/support/temp_dir.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ProfileVerbsTest : public testing::Test {
 protected:
  ProfileVerbsTest() { WriteWholeFile(text_, WordText(1500)); }
  ~ProfileVerbsTest() override { ClearInterrupt(); }

  static void AddVerbs(CLI::App& app) {
    AddProfileVerb(app);
    AddPlaceVerb(app);
    AddQuantizeVerb(app);
  }
  static std::string Call(const std::vector<std::string>& args) {
    return CallVerb(&AddVerbs, args);
  }
  std::vector<std::string> ProfileArgs(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"profile", "-m", ReluModelPath(), "-f", text_, "-t", "2", "-b",
                                     "32",      "-o", profile_};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  std::vector<std::string> PlaceArgs(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"place",
                                     "-m",
                                     ReluModelPath(),
                                     "--profile",
                                     profile_,
                                     "-t",
                                     "2",
                                     "-b",
                                     "32",
                                     "-o",
                                     dir_.file("other.placement.gguf")};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static std::string CallError(const std::vector<std::string>& args) {
    return ErrorOf([&] { Call(args); });
  }
  static std::string UsageError(const std::vector<std::string>& args) {
    return VerbUsageError(&AddVerbs, args);
  }

  TempDir dir_;
  std::string text_ = dir_.file("text");
  std::string profile_ = dir_.file("m.profile.gguf");
  std::string placement_ = dir_.file("m.placement.gguf");
};

TEST_F(ProfileVerbsTest, ProfileWithABudgetWritesBothFiles) {
  const std::string out = Call(ProfileArgs({"--vram", "1600K", "--ram", "1G"}));
  EXPECT_THAT(out,
              AllOf(HasSubstr("LRU"), HasSubstr("uniform"), HasSubstr("budgets: vram 1.56 MiB"),
                    HasSubstr(profile_), HasSubstr(placement_)));
  const ProfileStats stats = ReadProfile(profile_);
  const Placement placement = ReadPlacement(placement_);
  EXPECT_EQ(stats.model_fingerprint, placement.model_fingerprint);
  EXPECT_EQ(placement.vram_budget_bytes, 1600U * 1024);
  EXPECT_EQ(dir_.n_entries(), 3U);  // two outputs and the text

  // The file gives the same placement.
  const std::string again = Call(PlaceArgs({"--vram", "1600K", "--ram", "1G"}));
  EXPECT_THAT(again, AllOf(HasSubstr("slow tier"), HasSubstr("uniform"), Not(HasSubstr("LRU:"))));
  EXPECT_EQ(ReadWholeFile(dir_.file("other.placement.gguf")), ReadWholeFile(placement_));
}

TEST_F(ProfileVerbsTest, ProfileWithoutABudgetSaysThatItPlacesNothing) {
  const std::string out = Call(ProfileArgs());
  EXPECT_THAT(out, AllOf(HasSubstr("no placement was made"), Not(HasSubstr("LRU"))));
  EXPECT_FALSE(std::filesystem::exists(placement_));
  EXPECT_TRUE(std::filesystem::exists(profile_));
}

TEST_F(ProfileVerbsTest, SharesAndTheDefaultOfRam) {
  const std::string out = Call(ProfileArgs({"--hot", "34%", "--placement", dir_.file("p.gguf")}));
  EXPECT_THAT(out, AllOf(HasSubstr("of the memory available now"), HasSubstr("LRU")));
  EXPECT_EQ(ReadPlacement(dir_.file("p.gguf")).layers[0].n_on[kVram], 32);
}

TEST_F(ProfileVerbsTest, DriftTellsWhatMovingBringsBack) {
  const std::string other = dir_.file("other");
  WriteWholeFile(other, std::string(900, 'x') + WordText(100, 7));
  const std::string page = dir_.file("page.html");
  const std::string out =
      Call(ProfileArgs({"--hot", "34%", "--drift", other, "--drift", text_, "--report", page}));
  EXPECT_THAT(out, AllOf(HasSubstr("held-out"), HasSubstr("other"), HasSubstr("recovered"),
                         HasSubstr("all but the first")));
  EXPECT_THAT(ReadWholeFile(page),
              AllOf(HasSubstr("held-out, adapted"), HasSubstr("Hot sets that follow the text")));
  EXPECT_THAT(UsageError(ProfileArgs({"--drift", other})), HasSubstr("--vram"));
  EXPECT_THAT(CallError(ProfileArgs({"--hot", "34%", "--drift", dir_.file("none")})),
              HasSubstr("none"));
}

TEST_F(ProfileVerbsTest, AModelWithoutZerosGetsANote) {
  std::vector<std::string> args = ProfileArgs({"--max-tokens", "600"});
  args[2] = SiluModelPath();
  EXPECT_THAT(Call(args), HasSubstr("--activation-threshold"));
}

TEST_F(ProfileVerbsTest, QuantizeTakesTheImportanceOfInputs) {
  Call(ProfileArgs());
  std::vector<std::string> args = {"quantize", ReluModelPath(), dir_.file("plain"), "Q4_K_M"};
  EXPECT_THAT(Call(args), HasSubstr("could not become Q4_K"));
  args[2] = dir_.file("counted");
  args.insert(args.end(), {"--importance", profile_});
  Call(args);
  EXPECT_NE(ReadWholeFile(dir_.file("counted")), ReadWholeFile(dir_.file("plain")));
  args[1] = SiluModelPath();
  EXPECT_THAT(CallError(args), HasSubstr("the profile was made of another model"));
  args[1] = ReluModelPath();
  args[2] = profile_;
  EXPECT_THAT(CallError(args), HasSubstr(profile_)) << "it would be overwritten";
}

TEST_F(ProfileVerbsTest, WrongUsage) {
  EXPECT_THAT(UsageError(ProfileArgs({"--placement", placement_})), HasSubstr("--vram"));
  EXPECT_THAT(UsageError(ProfileArgs({"--vram", "many"})), HasSubstr("many"));
  EXPECT_THAT(UsageError(ProfileArgs({"--vram", "1G", "--hot", "0.5"})), HasSubstr("excludes"));
  EXPECT_THAT(UsageError(ProfileArgs({"--hot", "1.5"})), HasSubstr("1.5"));
  EXPECT_THAT(UsageError(ProfileArgs({"--heldout-fraction", "1"})),
              HasSubstr("above 0 and below 1"));
  EXPECT_THAT(UsageError(ProfileArgs({"--heldout-fraction", "0.1", "--heldout", text_})),
              HasSubstr("excludes"));
  EXPECT_THAT(UsageError(ProfileArgs({"--activation-threshold", "nan"})), HasSubstr("nan"));
  EXPECT_THAT(UsageError(ProfileArgs({"--activation-threshold=-1"})), HasSubstr("-1"));
  EXPECT_THAT(UsageError(ProfileArgs({"--max-tokens", "0"})), Not(testing::IsEmpty()));
  EXPECT_THAT(UsageError(PlaceArgs()), HasSubstr("--vram"));
  EXPECT_EQ(dir_.n_entries(), 1U);
}

TEST_F(ProfileVerbsTest, WrongFiles) {
  std::vector<std::string> args = ProfileArgs();
  args[4] = dir_.file("none");
  EXPECT_THAT(CallError(args), AllOf(HasSubstr("none"), HasSubstr("cannot open")));
  WriteWholeFile(dir_.file("empty"), "");
  args[4] = dir_.file("empty");
  EXPECT_THAT(CallError(args), HasSubstr("empty"));
  args = ProfileArgs();
  args.back() = dir_.file("no/such/place.gguf");
  EXPECT_THAT(CallError(args), HasSubstr("cannot write here"));
  args.back() = text_;
  EXPECT_THAT(CallError(args), HasSubstr("this file is read"));
  args.back() =
      dir_.path() + "/../" + std::filesystem::path(dir_.path()).filename().string() + "/text";
  EXPECT_THAT(CallError(args), HasSubstr("this file is read"));
  EXPECT_THAT(CallError(ProfileArgs({"--hot", "1", "--placement", profile_})), HasSubstr(profile_));
  EXPECT_THAT(CallError(ProfileArgs({"--vram", "1K"})), HasSubstr("the VRAM budget is too small"));
  EXPECT_FALSE(std::filesystem::exists(profile_));
  EXPECT_EQ(ReadWholeFile(text_), WordText(1500));
}

TEST_F(ProfileVerbsTest, AProfileOfAnotherModel) {
  Call(ProfileArgs({"--max-tokens", "600"}));
  std::vector<std::string> args = PlaceArgs({"--vram", "1G"});
  args[2] = SiluModelPath();
  EXPECT_THAT(CallError(args), AllOf(HasSubstr("another model"), HasSubstr("wide_heads.gguf")));
  args = PlaceArgs({"--vram", "1G"});
  args[4] = ReluModelPath();
  EXPECT_THAT(CallError(args), HasSubstr("not a profile file"));
  EXPECT_FALSE(std::filesystem::exists(dir_.file("other.placement.gguf")));
}

TEST_F(ProfileVerbsTest, PlacesByTimeAndExplains) {
  const std::string rates = dir_.file("m.rates.gguf");
  WriteRates(rates, FixedRates());
  Call(ProfileArgs());
  const std::string out = Call(PlaceArgs(
      {"--vram", "1500K", "--ram", "1G", "--rates", rates, "--objective", "time", "--explain"}));
  EXPECT_THAT(
      out, AllOf(HasSubstr("rates: " + rates), HasSubstr("optimal "), HasSubstr("coverage-greedy "),
                 HasSubstr("uniform "), HasSubstr("layer-wise "),
                 HasSubstr("no split takes less than "), HasSubstr("predicted: ")));
  const Placement placement = ReadPlacement(dir_.file("other.placement.gguf"));
  ASSERT_TRUE(placement.prediction.has_value());
  EXPECT_EQ(placement.prediction->mode, "exact");

  const std::vector<std::string> json_args = {"place",     "-m",      ReluModelPath(),
                                              "--profile", profile_,  "-t",
                                              "2",         "-b",      "32",
                                              "--ram",     "1G",      "--rates",
                                              rates,       "--vram",  "1500K",
                                              "--explain", "--sweep", "vram=1M..2M:256K",
                                              "--json"};
  const auto json = nlohmann::json::parse(Call(json_args));
  ASSERT_EQ(json["explain"].size(), 4U);
  EXPECT_EQ(json["explain"][0]["ms_per_token"], placement.prediction->ms_per_token);
  ASSERT_EQ(json["sweep"].size(), 5U);
  double last = 1e9;
  for (const auto& point : json["sweep"]) {
    if (!point["fits"].get<bool>()) continue;
    EXPECT_LE(point["ms_per_token"].get<double>(), last);
    last = point["ms_per_token"].get<double>();
  }
  EXPECT_LT(last, 1e9);
}

TEST_F(ProfileVerbsTest, RatesOfAnotherMachineAreRefused) {
  Call(ProfileArgs());
  MachineRates rates = FixedRates();
  rates.machine.cpu = "Another CPU";
  WriteRates(dir_.file("other.rates.gguf"), rates);
  EXPECT_THAT(CallError(PlaceArgs(
                  {"--vram", "1500K", "--ram", "1G", "--rates", dir_.file("other.rates.gguf")})),
              AllOf(HasSubstr("other.rates.gguf"), HasSubstr("Another CPU")));
}

TEST_F(ProfileVerbsTest, SweepsThatAreNoneAreUsageErrors) {
  for (const char* sweep : {"4G..8G", "vram=8G..4G", "vram=4G", "vram=4G..8G:0", "vram=1..1G:1",
                            "ram=4G..8G", "vram=4G..8G:x", "vram=..", ""}) {
    EXPECT_NE(UsageError(PlaceArgs({"--sweep", sweep})), "") << sweep;
  }
  EXPECT_THAT(UsageError(PlaceArgs({"--json", "--vram", "1M"})), HasSubstr("--json"));
  EXPECT_THAT(UsageError({"place", "-m", ReluModelPath(), "--profile", profile_, "--vram", "1M"}),
              HasSubstr("-o FILE"));
}

TEST_F(ProfileVerbsTest, CtrlCLeavesNoFiles) {
  RequestInterrupt();
  EXPECT_THROW(Call(ProfileArgs({"--hot", "0.5"})), Interrupted);
  EXPECT_EQ(dir_.n_entries(), 1U);
}

TEST_F(ProfileVerbsTest, HelpNamesUnitsAndShowsAnExample) {
  for (const auto* verb : {"profile", "place"}) {
    CLI::App app("test", "thermocline");
    AddProfileVerb(app);
    AddPlaceVerb(app);
    const std::string help = app.get_subcommand(verb)->help();
    EXPECT_THAT(help, AllOf(HasSubstr("Example"), HasSubstr("--vram"), HasSubstr("8G"),
                            HasSubstr("Exit codes")))
        << verb;
  }
}

}  // namespace
}  // namespace thermocline
