// The verbs `profile --draft`, `drafts` and `place --explain --draft`, called as the command line
// calls them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "runtime/core/interrupt.h"
#include "runtime/placement/draft_file.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/rates/fixed_rates.h"
#include "tests/support/call_verb.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

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
  EXPECT_GE(file.chains.n_texts, 1);
  EXPECT_GE(file.chains.n_positions(), 10);
  // A text goes on with what was accepted of the chains behind it.
  const int64_t n_ids = file.chains.n_prompt + file.chains.n_positions() + file.chains.depth;
  EXPECT_EQ(std::ssize(file.chains.ids), file.chains.n_texts * n_ids);
  // What is likelier to be accepted is what the draft is surer of.
  double said[2] = {0, 0};
  double n[2] = {0, 0};
  for (size_t i = 0; i < file.chains.accepted.size(); ++i) {
    const size_t accepted = file.chains.accepted[i] > 0 ? 1 : 0;
    said[accepted] +=
        static_cast<double>(file.chains.certainty[i * static_cast<size_t>(file.chains.depth)]);
    n[accepted] += 1;
  }
  EXPECT_GT(n[1], 0);
  if (n[0] > 0) {
    EXPECT_GT(said[1] / n[1], said[0] / n[0]);
  }
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
                                               "2M",
                                               "--ram",
                                               "1G",
                                               "--rates",
                                               rates,
                                               "--explain",
                                               "--draft",
                                               draft_,
                                               "--slow-tier-limit",
                                               "0.1"});
  EXPECT_THAT(out, AllOf(HasSubstr("split for"), HasSubstr("none (plain)"),
                         HasSubstr("ms to draft a token"), HasSubstr("tokens per pass"),
                         HasSubstr("drafted at most"), HasSubstr("and n-grams")));
  // An older draft does not know its chains' texts, or nothing of its chains.
  DraftFile file = ReadDraft(draft_);
  file.chains.ids.clear();
  const std::string without_ids = dir_.file("without_ids.draft.gguf");
  WriteDraft(without_ids, file);
  const std::string less =
      CallVerb(&AddVerbs, {"place", "-m", SiluModelPath(), "--profile", profile_, "--vram", "4M",
                           "--ram", "1G", "--rates", rates, "--explain", "--draft", without_ids});
  EXPECT_THAT(less, AllOf(HasSubstr("drafted at most"), Not(HasSubstr("n-grams"))));
  file.chains = {};
  const std::string old = dir_.file("old.draft.gguf");
  WriteDraft(old, file);
  EXPECT_THAT(MessageOf([&] {
                CallVerb(&AddVerbs,
                         {"place", "-m", SiluModelPath(), "--profile", profile_, "--vram", "2M",
                          "--ram", "1G", "--rates", rates, "--explain", "--draft", old});
              }),
              AllOf(HasSubstr(old), HasSubstr("make it again")));
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

}  // namespace
}  // namespace thermocline
