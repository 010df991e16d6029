#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"
#include "tools/eval/score_tasks.h"

namespace thermocline {
namespace {

EvalItem Parse(const std::string& line) { return ParseEvalItem(line, "tasks", 7); }

TEST(EvalItems, AreReadAsTheSetsAreGivenOut) {
  const EvalItem arc = Parse(
      R"({"id":"x","question":"What melts?","choices":{"text":["ice","stone"],"label":["A","B"]},"answerKey":"B"})");
  EXPECT_EQ(arc.context, "Question: What melts?\nAnswer:");
  EXPECT_EQ(arc.choices, (std::vector<std::string>{" ice", " stone"}));
  EXPECT_EQ(arc.answer, 1U);
  const EvalItem piqa = Parse(R"({"goal":"cut","sol1":"knife","sol2":"spoon","label":0})");
  EXPECT_EQ(piqa.choices[1], " spoon");
  EXPECT_EQ(piqa.answer, 0U);
  const EvalItem swag = Parse(
      R"({"activity_label":"Diving","ctx_a":"A man stands.","ctx_b":"he","endings":["[step] jumps.","sits."],"label":"1"})");
  EXPECT_EQ(swag.context, "Diving: A man stands. He");
  EXPECT_EQ(swag.choices[0], " jumps.");
  EXPECT_EQ(swag.answer, 1U);
  const EvalItem lambada = Parse(R"({"text":"She opened the door"})");
  EXPECT_EQ(lambada.context, "She opened the");
  EXPECT_EQ(lambada.choices, std::vector<std::string>{" door"});
  const EvalItem general = Parse(R"({"context":"1 + 1 =","choices":[" 2"," 3"," 4"],"answer":2})");
  EXPECT_EQ(general.answer, 2U);
}

TEST(EvalItems, WhatIsNoneSaysWhereAndWhy) {
  const char* const bad[] = {
      "[]",
      "{}",
      "{",
      R"({"goal":"a","sol1":"b","sol2":"c","label":2})",
      R"({"question":"a","choices":{"text":["b"],"label":["A"]},"answerKey":"C"})",
      R"({"question":"a","choices":["b"],"answerKey":"C"})",
      R"({"text":"word"})",
      R"({"ctx":"a","endings":[],"label":0})",
      R"({"ctx":"a","endings":["b"],"label":-1})",
      R"({"context":"a","choices":["",""],"answer":0})",
      R"({"context":1,"choices":["b"],"answer":0})"};
  for (const char* line : bad) {
    EXPECT_NE(MessageOf([&] { Parse(line); }).find("tasks, line 7"), std::string::npos) << line;
  }
  TempDir dir;
  WriteWholeFile(dir.file("empty"), "\n\n");
  EXPECT_THROW(ReadEvalItems(dir.file("empty"), 0), Error);
}

TEST(EvalShares, HaveWilsonsInterval) {
  const ScoredShare share = ShareRight(40, 100);
  EXPECT_NEAR(share.low, 0.3094, 1e-4);
  EXPECT_NEAR(share.high, 0.4980, 1e-4);
  EXPECT_EQ(ShareRight(0, 10).low, 0);
  EXPECT_NEAR(ShareRight(10, 10).low, 0.7225, 1e-4);
}

TEST(EvalShares, DifferencesArePaired) {
  std::vector<ItemScore> first(8);
  std::vector<ItemScore> second(8);
  for (const size_t i : {0, 1, 2, 3}) first[i].right = true;
  for (const size_t i : {0, 1, 2, 4, 5}) second[i].right = true;
  const PairedDifference difference = Compare(first, second, &ItemScore::right);
  EXPECT_EQ(difference.gained, 2);
  EXPECT_EQ(difference.lost, 1);
  EXPECT_DOUBLE_EQ(difference.mean, 1.0 / 8);
  // Differences 1, 1, -1 and five zeros.
  EXPECT_NEAR(difference.std_error, std::sqrt((3 - 8.0 / 64) / 7 / 8), 1e-12);
}

// A choice's likelihood is that of its tokens behind the text, however much of it was kept from the
// choice before.
TEST(EvalScores, AreThoseOfTheWholeTexts) {
  EngineOptions options;
  options.model_path = DemoModel();
  options.fast_tier = FastTier::kCpu;
  options.n_threads = 2;
  options.all_logits = true;
  options.sparse = "dense";
  Engine engine(options);
  const std::vector<EvalItem> items = {
      {"The sea was calm and the", {" wind", " sky above them"}, 1},
      {"The sea was calm", {" again"}, 0},
      {"He said that he", {" would", " stone", " xyzzy"}, 0}};
  const auto scores = ScoreItems(engine, items, SparseMode::kDense, {});
  ASSERT_EQ(scores.size(), 3U);
  for (size_t i = 0; i < items.size(); ++i) {
    const EvalItem& item = items[i];
    const auto score = [&](const std::string& choice) {
      const std::vector<EvalItem> one = {{item.context, {choice}, 0}};
      return ScoreItems(engine, one, SparseMode::kDense, {})[0];
    };
    const ItemScore alone = score(item.choices[item.answer]);
    EXPECT_NEAR(scores[i].nll, alone.nll, 0.05);
    EXPECT_EQ(scores[i].tokens, alone.tokens);
    bool best = true;
    for (const std::string& choice : item.choices)
      best = best && score(choice).nll >= alone.nll - 0.05;
    if (item.choices.size() > 1) {
      EXPECT_EQ(scores[i].right, best);
    }
  }
  EXPECT_TRUE(scores[2].right);
}

}  // namespace
}  // namespace thermocline
