#include "runtime/speculate/draft_tree.h"

#include <gtest/gtest.h>

#include "tests/sampling/distributions.h"
#include "tests/speculate/toy_text.h"

namespace thermocline {
namespace {

const Confidence kNothingLearnt;

DraftLimits Limits() { return {.vocab_size = kToyVocab, .max_depth = 4, .max_nodes = 6}; }

TEST(DraftTree, AChainHasNoBranches) {
  const Sampler sampler(Plain());
  DraftTree tree(Limits(), sampler, nullptr, kNothingLearnt);
  const int32_t first = tree.Add(DraftTree::kText, 3, 1);
  EXPECT_EQ(first, 0);
  EXPECT_EQ(tree.Add(DraftTree::kText, 4, 1), DraftTree::kNothing);
  EXPECT_EQ(tree.RoomBehind(first), 3);
  EXPECT_EQ(tree.Add(first, 4, 1), 1);
  EXPECT_EQ(tree.ChildWith(first, 4), 1);
  EXPECT_EQ(tree.ChildWith(first, 5), DraftTree::kNothing);
  EXPECT_FALSE(tree.WantsMore(DraftTree::kNothing));
}

TEST(DraftTree, BranchesAreChosenAndADrawnTokenStandsAlone) {
  const Sampler sampler(Plain());
  DraftLimits limits = Limits();
  limits.branches = true;
  DraftTree tree(limits, sampler, nullptr, kNothingLearnt);
  EXPECT_EQ(tree.Add(DraftTree::kText, 3, 1), 0);
  EXPECT_EQ(tree.Add(DraftTree::kText, 4, 1), 1);
  EXPECT_EQ(tree.Add(DraftTree::kText, 4, 1), DraftTree::kNothing) << "is there already";
  EXPECT_EQ(tree.AddDrawn(DraftTree::kText, std::vector<TokenChance>{{5, 1}}), DraftTree::kNothing);
  EXPECT_EQ(tree.AddDrawn(0, std::vector<TokenChance>{{5, 1}}), 2);
  EXPECT_EQ(tree.Add(0, 6, 1), DraftTree::kNothing);
  EXPECT_EQ(tree.ChildWith(DraftTree::kText, 4), 1);
  EXPECT_FALSE(tree.DrawnBehind(DraftTree::kText));
  EXPECT_EQ(tree.DrawnBehind(0)->id, 5);
}

// A draft that looked at a drawn token before it left it out would bias the text: how often a
// token is drawn must not depend on how likely it is to be accepted.
TEST(DraftTree, WhatIsNotWorthItsTimeIsLeftOutBeforeItIsDrawn) {
  const Sampler sampler(Plain());
  DraftLimits limits = Limits();
  limits.least_chance = {0.55, 0.55, 0.55, 0.55};
  const std::vector<TokenChance> chances = {{1, 0.6}, {2, 0.3}, {3, 0.1}};
  std::map<int32_t, int> counts;
  for (limits.seed = 0; limits.seed < 20'000; ++limits.seed) {
    DraftTree tree(limits, sampler, nullptr, kNothingLearnt);
    const int32_t at = tree.AddDrawn(DraftTree::kText, chances);
    ASSERT_EQ(at, 0);
    ++counts[tree.nodes()[0].token];
    EXPECT_EQ(tree.AddDrawn(at, chances), DraftTree::kNothing) << "0.36 is less than 0.55";
  }
  ExpectDistribution(counts, {{1, 0.6}, {2, 0.3}, {3, 0.1}});
}

TEST(DraftTree, LogitsPassThroughTheTextsOwnSampler) {
  SamplerOptions options = Plain();
  options.top_k = 2;
  options.presence_penalty = 100;
  Sampler sampler(options);
  sampler.Accept(0);
  DraftTree tree(Limits(), sampler, nullptr, kNothingLearnt);
  // 0 is penalised; of the best two, whichever is drawn is penalised behind itself.
  const std::vector<float> logits = {9, 8, 7, 6, 5, 0, 0, 0, 0, 0, 0, 0};
  int32_t at = DraftTree::kText;
  while (tree.WantsMore(at)) at = tree.AddFrom(at, {.all = logits});
  ASSERT_EQ(tree.nodes().size(), 4);
  std::set<int32_t> seen = {0};
  for (const DraftTree::Node& node : tree.nodes()) {
    EXPECT_EQ(node.drawn_from.size(), 2);
    EXPECT_TRUE(seen.insert(node.token).second) << node.token;
  }
}

TEST(DraftTree, NothingFollowsTheTextsEnd) {
  const Sampler sampler(Plain());
  DraftLimits limits = Limits();
  limits.ends_text = [](int32_t id) { return id == 2; };
  DraftTree tree(limits, sampler, nullptr, kNothingLearnt);
  const int32_t end = tree.Add(DraftTree::kText, 2, 1);
  EXPECT_EQ(end, 0);
  EXPECT_FALSE(tree.WantsMore(end));
}

TEST(Confidence, LearnsPerCertaintyAndStartsFromWhatOthersTaught) {
  Confidence all;
  Confidence text(&all);
  EXPECT_NEAR(text.Of(0, 0.7), 0.7, 1e-9) << "believes until it knows better";
  for (int i = 0; i < 200; ++i) all.Learn(0, 0.7, i % 4 == 0);
  EXPECT_NEAR(text.Of(0, 0.7), 0.25, 0.06);
  EXPECT_NEAR(text.Of(0, 0.97), 0.97, 1e-9);
  EXPECT_NEAR(text.Of(1, 0.7), 0.7, 1e-9) << "another source";
  for (int i = 0; i < 200; ++i) text.Learn(0, 0.7, true);
  EXPECT_GT(text.Of(0, 0.7), 0.85);
  EXPECT_NEAR(text.Of(0, std::nan("")), text.Of(0, -3), 1e-9);
}

}  // namespace
}  // namespace thermocline
