// The verbs `profile --draft`, `drafts` and `place --explain --draft`, called as the command line
// calls them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "profiler/placement/draft_cost.h"
#include "runtime/core/interrupt.h"
#include "runtime/placement/draft_file.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/rates/fixed_rates.h"
#include "tests/support/call_verb.h"
#include "tests/support/temp_dir.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DraftVerbsTest : public testing::Test {
 protected:
  DraftVerbsTest() { WriteWholeFile(text_, WordText(1500)); }
  ~DraftVerbsTest() override { ClearInterrupt(); }

  static void AddVerbs(CLI::App& app) {
    AddProfileVerb(app);
    AddPlaceVerb(app);
    AddDraftsVerb(app);
  }
  std::string Profile(const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"profile", "-m", SiluModelPath(), "-f", text_, "-t",
                                     "2",       "-o", profile_};
    args.insert(args.end(), more.begin(), more.end());
    return CallVerb(&AddVerbs, args);
  }

  TempDir dir_;
  std::string text_ = dir_.file("text");
  std::string profile_ = dir_.file("m.profile.gguf");
  std::string draft_ = dir_.file("m.draft.gguf");
};

TEST_F(DraftVerbsTest, ProfileTriesAndKeepsTheBest) {
  const std::string out = Profile({"--draft", draft_, "--draft-share", "0.5", "--draft-tokens",
                                   "800", "--draft-heldout-tokens", "500"});
  EXPECT_THAT(out, AllOf(HasSubstr("neurons ranked by mass"), HasSubstr("ranked by frequency"),
                         HasSubstr("ranked by acceptance"), HasSubstr("rank:32"),
                         HasSubstr("mixed"), HasSubstr("draft: " + draft_)));
  const DraftFile file = ReadDraft(draft_);
  EXPECT_GT(file.acceptance, 0.5);
  EXPECT_GT(file.heldout_tokens, 100);
  EXPECT_EQ(file.corpus_hash.size(), 16U);
}

TEST_F(DraftVerbsTest, PlaceSaysWhatDraftingWouldBring) {
  Profile({"--draft", draft_, "--draft-stand-in", "none", "--draft-ranking", "mass",
           "--draft-tokens", "800", "--draft-heldout-tokens", "500"});
  const std::string rates = dir_.file("rates");
  WriteRates(rates, FixedRates());
  const std::string out = CallVerb(&AddVerbs, {"place",
                                               "-m",
                                               SiluModelPath(),
                                               "--profile",
                                               profile_,
                                               "-t",
                                               "2",
                                               "-b",
                                               "32",
                                               "--vram",
                                               "1500K",
                                               "--ram",
                                               "1G",
                                               "--rates",
                                               rates,
                                               "--explain",
                                               "--draft",
                                               draft_,
                                               "--slow-tier-limit",
                                               "0.1"});
  EXPECT_THAT(out, AllOf(HasSubstr("none (plain)"), HasSubstr("tokens per pass"),
                         HasSubstr("of drafted tokens accepted")));
}

TEST_F(DraftVerbsTest, DraftsTables) {
  const std::string page = dir_.file("page.html");
  const std::string out = CallVerb(&AddVerbs, {"drafts",
                                               "-m",
                                               SiluModelPath(),
                                               "-t",
                                               "2",
                                               "-f",
                                               text_,
                                               "--heldout",
                                               text_,
                                               "--shares",
                                               "0.4,0.8",
                                               "--stand-ins",
                                               "none,bias,3bit",
                                               "--tokens",
                                               "600",
                                               "--heldout-tokens",
                                               "400",
                                               "--depth",
                                               "4",
                                               "--stride",
                                               "8",
                                               "--report",
                                               page});
  EXPECT_THAT(out, AllOf(HasSubstr("0.40"), HasSubstr("0.80"), HasSubstr("3bit"),
                         HasSubstr("depth"), HasSubstr("copy text")));
  EXPECT_THAT(ReadWholeFile(page), AllOf(HasSubstr("<svg"), HasSubstr("tokens accepted")));
}

TEST_F(DraftVerbsTest, WrongUsage) {
  const auto error = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"drafts",    "-m", SiluModelPath(), "-f", text_,
                                     "--heldout", text_};
    args.insert(args.end(), more.begin(), more.end());
    return VerbUsageError(&AddVerbs, args);
  };
  EXPECT_THAT(error({"--shares", "0.5,2"}), HasSubstr("'2'"));
  EXPECT_THAT(error({"--stand-ins", "none,5bit"}), HasSubstr("'5bit'"));
  EXPECT_THAT(error({"--by", "weight"}), HasSubstr("bytes or hot"));
  EXPECT_THAT(error({"--ranking", "size"}), HasSubstr("'size'"));
}

TEST(DraftCost, TokensPerPass) {
  EXPECT_DOUBLE_EQ(TokensPerPass(0.8, 0), 1);
  EXPECT_DOUBLE_EQ(TokensPerPass(0.5, 3), 1.875);
  EXPECT_DOUBLE_EQ(TokensPerPass(1, 7), 8);
  EXPECT_DOUBLE_EQ(TokensPerPass(0, 7), 1);
}

}  // namespace
}  // namespace thermocline
