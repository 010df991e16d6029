#include "runtime/speculate/draft_tree.h"

#include <gtest/gtest.h>

#include "runtime/speculate/tree_rows.h"
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

DraftLimits Wide(int64_t max_children = 3) {
  DraftLimits limits = Limits();
  limits.max_children = max_children;
  return limits;
}

TEST(DraftTree, OfThoseBehindATokenTheFirstMayBeDrawn) {
  const Sampler sampler(Plain());
  DraftTree tree(Wide(2), sampler, nullptr, kNothingLearnt);
  EXPECT_EQ(tree.Add(DraftTree::kText, 3, 0.5), 0);
  EXPECT_EQ(tree.AddDrawn(DraftTree::kText, std::vector<TokenChance>{{5, 1}}), DraftTree::kNothing)
      << "behind another it could not be verified";
  EXPECT_EQ(tree.Add(DraftTree::kText, 3, 1), DraftTree::kNothing) << "is there already";
  EXPECT_EQ(tree.Add(DraftTree::kText, 4, 1), 1);
  EXPECT_EQ(tree.Add(DraftTree::kText, 6, 1), DraftTree::kNothing) << "two may follow";
  EXPECT_EQ(tree.AddDrawn(0, std::vector<TokenChance>{{5, 1}}), 2);
  EXPECT_EQ(tree.Add(0, 5, 1), DraftTree::kNothing) << "was drawn";
  EXPECT_EQ(tree.Add(0, 6, 1), 3);
  EXPECT_EQ(tree.nodes()[3].place, 1);
  EXPECT_EQ(tree.ChildWith(DraftTree::kText, 4), 1);
  EXPECT_FALSE(tree.DrawnBehind(DraftTree::kText));
  EXPECT_EQ(tree.DrawnBehind(0)->id, 5);
  EXPECT_EQ(tree.depth(), 2);
}

TEST(DraftTree, ATokenBesideOthersIsAcceptedWhereTheyAreNot) {
  const Sampler sampler(Plain());
  DraftTree tree(Wide(), sampler, nullptr, kNothingLearnt);
  tree.Add(DraftTree::kText, 3, 0.6);
  tree.Add(DraftTree::kText, 4, 0.5);
  tree.Add(DraftTree::kText, 5, 1);
  tree.Add(1, 6, 0.5);
  EXPECT_NEAR(tree.nodes()[0].chance, 0.6, 1e-9);
  EXPECT_NEAR(tree.nodes()[1].chance, 0.4 * 0.5, 1e-9);
  EXPECT_NEAR(tree.nodes()[2].chance, 0.4 * 0.5 * 1, 1e-9);
  EXPECT_NEAR(tree.nodes()[3].chance, 0.2 * 0.5, 1e-9);
}

TEST(DraftTree, WhatIsLikeliestIsTakenFirst) {
  const Sampler sampler({.temperature = 0});
  DraftLimits limits = Wide();
  limits.max_nodes = 4;
  DraftTree tree(limits, sampler, nullptr, kNothingLearnt);
  // Chances of about 0.64, 0.24 and 0.09.
  const std::vector<float> logits = {2, 1, 0, -9, -9, -9, -9, -9, -9, -9, -9, -9};
  tree.Offer(DraftTree::kText, {.all = logits});
  EXPECT_EQ(tree.TakeBest(0.7), DraftTree::kNothing);
  EXPECT_EQ(tree.TakeBest(0.6), 0);
  tree.Offer(0, 7, 0.1);  // 0.06
  EXPECT_EQ(tree.TakeBest(0), 1);
  EXPECT_EQ(tree.nodes()[1].token, 1);
  EXPECT_NEAR(tree.nodes()[1].chance, 0.245, 0.01);
  EXPECT_EQ(tree.TakeBest(0), 2);
  EXPECT_EQ(tree.nodes()[2].token, 2);
  EXPECT_EQ(tree.TakeBest(0), 3);
  EXPECT_EQ(tree.nodes()[3].token, 7);
  tree.Offer(3, 7, 1);
  EXPECT_EQ(tree.TakeBest(0), DraftTree::kNothing) << "there is room for no more";
}

// A token that its source has computed with another costs less than one that it has not.
TEST(DraftTree, ATokenBesideAnotherHasABoundOfItsOwn) {
  const Sampler sampler(Plain());
  DraftLimits limits = Wide();
  limits.least_chance = std::vector<double>(6, 0.3);
  limits.least_beside = std::vector<double>(6, 0.1);
  DraftTree tree(limits, sampler, nullptr, kNothingLearnt);
  EXPECT_EQ(tree.Add(DraftTree::kText, 3, 0.8), 0);
  EXPECT_EQ(tree.Add(DraftTree::kText, 4, 0.8), 1) << "0.16";
  EXPECT_FALSE(tree.WantsMore(1));
  EXPECT_FALSE(tree.WantsMore(DraftTree::kText)) << "0.04 at most";
  EXPECT_TRUE(tree.WantsMore(0));
}

TEST(TreeRows, TheLikeliestPathComesFirst) {
  const Sampler sampler(Plain());
  DraftTree tree(Wide(), sampler, nullptr, kNothingLearnt);
  EXPECT_EQ(tree.Add(DraftTree::kText, 3, 0.3), 0);
  EXPECT_EQ(tree.Add(DraftTree::kText, 4, 0.9), 1);
  EXPECT_EQ(tree.Add(0, 5, 0.9), 2);
  EXPECT_EQ(tree.Add(1, 6, 0.2), 3);
  EXPECT_EQ(tree.Add(1, 7, 0.9), 4);
  EXPECT_EQ(tree.Add(4, 8, 0.9), 5);
  const TreeRows rows(std::vector<int32_t>{1}, tree);
  EXPECT_EQ(rows.ids, (std::vector<int32_t>{1, 4, 7, 8, 6, 3, 5}));
  EXPECT_EQ(rows.parents, (std::vector<int32_t>{-1, 0, 1, 2, 1, 0, 5}));
  EXPECT_EQ(rows.RowOf(DraftTree::kText), 0);
  EXPECT_EQ(rows.RowOf(5), 3);
  EXPECT_EQ(rows.PathTo(tree, 2), (std::vector<int32_t>{0, 5, 6}));
  EXPECT_EQ(rows.PathTo(tree, DraftTree::kText), (std::vector<int32_t>{0}));
}

// A model that is sure writes a chain; one that is not has its best few read in one pass.
TEST(DraftGrowth, IsAsWideAsTheModelIsUnsure) {
  const Sampler sampler({.temperature = 0});
  const std::vector<int32_t> text = {1, 2};
  const auto grown = [&](float lead) {
    DraftTree tree(Wide(), sampler, nullptr, kNothingLearnt);
    const DraftRequest request{.ids = text, .tree = &tree};
    GrowToy(request, [lead](std::span<const int32_t> ids) {
      std::vector<float> logits(kToyVocab, -9);
      const auto next = static_cast<size_t>((ids.back() + 1) % 12);
      logits[next] = lead;
      logits[(next + 3) % 12] = 0;
      return logits;
    });
    return std::pair(tree.nodes().size(), tree.depth());
  };
  EXPECT_EQ(grown(5), std::pair(size_t{6}, int64_t{4})) << "two beside, when four deep";
  EXPECT_EQ(grown(0.1F).first, 6);
  EXPECT_LE(grown(0.1F).second, 3);
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
  EXPECT_NEAR(text.Of(0, 0.7, 1), 0.7, 1e-9) << "beside another";
  for (int i = 0; i < 200; ++i) text.Learn(0, 0.7, false, 1);
  EXPECT_LT(text.Of(0, 0.7, 1), 0.1);
  EXPECT_GT(text.Of(0, 0.7), 0.85);
  EXPECT_NEAR(text.Of(0, 0.7, 2), 0.7, 1e-9);
  EXPECT_EQ(text.Of(0, 0.7, 2), text.Of(0, 0.7, 9));
}

}  // namespace
}  // namespace thermocline
