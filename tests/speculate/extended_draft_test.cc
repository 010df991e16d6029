// A source's drafts that n-grams extend: what goes on behind them, what is learnt of it, when the
// source is not asked at all, and texts that stay what they are.
#include "runtime/speculate/extended_draft.h"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "tests/sampling/distributions.h"
#include "tests/speculate/toy_text.h"

namespace thermocline {
namespace {

constexpr int32_t kExtension = Confidence::ExtensionOf(0);

DraftLimits LimitsOf(int64_t most) {
  return {.vocab_size = 1000, .max_depth = most, .max_nodes = most};
}

std::vector<int32_t> TokensOf(const DraftTree& tree) {
  std::vector<int32_t> tokens;
  for (const DraftTree::Node& node : tree.nodes()) tokens.push_back(node.token);
  return tokens;
}

// Adds these tokens, one behind the other.
FunctionDraft::Propose Chain(const std::vector<int32_t>& tokens) {
  return [tokens](const DraftRequest& request) {
    int32_t at = DraftTree::kText;
    for (const int32_t token : tokens) at = request.tree->Add(at, token, 0.9);
  };
}

class ExtendedDraftTest : public testing::Test {
 protected:
  void Draft(const std::vector<int32_t>& ids, const FunctionDraft::Propose& propose,
             DraftTree* tree) {
    FunctionDraft source(propose);
    ExtendedDraft extended(&source);
    const DraftRequest request{.ids = ids, .tree = tree};
    extended.Draft({&request, 1});
  }

  const Sampler sampler_{Plain()};
  Confidence confidence_;
};

TEST_F(ExtendedDraftTest, GoesOnBehindTheDraftsEnd) {
  const std::vector<int32_t> ids = {1, 2, 3, 40, 41, 42, 9, 1, 2};
  DraftTree tree(LimitsOf(4), sampler_, nullptr, confidence_);
  Draft(ids, Chain({3}), &tree);
  EXPECT_EQ(TokensOf(tree), (std::vector<int32_t>{3, 40, 41, 42}));
  EXPECT_EQ(tree.nodes()[0].source, 0);
  EXPECT_EQ(tree.nodes()[1].source, kExtension);
  EXPECT_EQ(tree.depth(), 4);
  EXPECT_EQ(tree.drafted_depth(), 1);
  // What the draft says decides what follows it, not what the text alone would say.
  DraftTree other(LimitsOf(3), sampler_, nullptr, confidence_);
  Draft({1, 2, 3, 40, 5, 3, 77, 78, 9, 1, 2}, Chain({5, 3}), &other);
  EXPECT_EQ(TokensOf(other), (std::vector<int32_t>{5, 3, 77}));
  // Nothing followed that.
  DraftTree none(LimitsOf(4), sampler_, nullptr, confidence_);
  Draft(ids, Chain({500}), &none);
  EXPECT_EQ(TokensOf(none), (std::vector<int32_t>{500}));
}

TEST_F(ExtendedDraftTest, IsTheTextsOwnWhereNothingWasDrafted) {
  DraftTree tree(LimitsOf(3), sampler_, nullptr, confidence_);
  Draft({1, 2, 3, 40, 41, 9, 1, 2, 3}, Chain({}), &tree);
  EXPECT_EQ(TokensOf(tree), (std::vector<int32_t>{40, 41, 9}));
  EXPECT_EQ(tree.drafted_depth(), 0);
}

TEST_F(ExtendedDraftTest, GoesOnBehindEachEndOfATree) {
  DraftLimits limits = LimitsOf(12);
  limits.max_children = 2;
  DraftTree tree(std::move(limits), sampler_, nullptr, confidence_);
  Draft(
      {1, 2, 3, 40, 8, 2, 4, 50, 9, 1, 2},
      [](const DraftRequest& request) {
        request.tree->Add(DraftTree::kText, 3, 0.6);
        request.tree->Add(DraftTree::kText, 4, 0.3);
      },
      &tree);
  EXPECT_NE(tree.ChildWith(0, 40), DraftTree::kNothing);
  EXPECT_NE(tree.ChildWith(1, 50), DraftTree::kNothing);
}

TEST_F(ExtendedDraftTest, IsLearntApart) {
  DraftTree tree(LimitsOf(2), sampler_, nullptr, confidence_);
  Draft({1, 2, 3, 40, 41, 9, 1, 2}, Chain({3}), &tree);
  ASSERT_EQ(TokensOf(tree), (std::vector<int32_t>{3, 40}));
  Confidence learnt;
  for (int i = 0; i < 50; ++i) tree.Teach(0, /*tested=*/true, &learnt);
  EXPECT_GT(learnt.Of(0, tree.nodes()[0].confidence), 0.9);
  EXPECT_LT(learnt.Of(kExtension, tree.nodes()[1].confidence), 0.2);
  EXPECT_NEAR(learnt.Of(0, tree.nodes()[1].confidence), tree.nodes()[1].confidence, 1e-9);
}

// A source that says whether it was worth a pass at the text's end, and behind a first token.
TEST_F(ExtendedDraftTest, TheSourceIsAskedWhereWhatFollowedIsNotCertain) {
  const std::vector<int32_t> ids = {1, 2, 3, 40, 41, 42, 9, 1, 2};
  const auto asks = [&](double pass) {
    DraftLimits limits = LimitsOf(4);
    limits.least_chance.assign(4, pass);
    limits.least_beside.assign(4, 0);
    DraftTree tree(std::move(limits), sampler_, nullptr, confidence_);
    bool wants = false;
    Draft(
        ids, [&](const DraftRequest& r) { wants = r.tree->WantsPass(DraftTree::kText); }, &tree);
    EXPECT_EQ(TokensOf(tree), (std::vector<int32_t>{3, 40, 41, 42}));
    return wants;
  };
  EXPECT_TRUE(asks(0.1));  // two tokens agree: about half of that is right
  for (int i = 0; i < 100; ++i) confidence_.Learn(kExtension, NgramCertainty(2), true);
  EXPECT_FALSE(asks(0.1));
  EXPECT_TRUE(asks(0.001));  // a pass that costs nothing is always worth it
  for (int i = 0; i < 100; ++i) confidence_.Learn(kExtension, NgramCertainty(2), false);
  EXPECT_TRUE(asks(0.1));
}

TEST_F(ExtendedDraftTest, OfSeveralSourcesEachHasItsOwn) {
  DraftTree tree(LimitsOf(3), sampler_, nullptr, confidence_);
  const std::vector<int32_t> ids = {1, 2, 3, 40, 41, 9, 1, 2};
  tree.set_source(2);
  Draft(ids, Chain({3}), &tree);
  EXPECT_EQ(tree.nodes()[1].source, Confidence::ExtensionOf(2));
  tree.set_source(1);
  tree.Add(2, 7, 0.5);
  EXPECT_TRUE(tree.WantsPass(DraftTree::kText) == tree.WantsMore(DraftTree::kText));
}

struct ToyRun {
  std::vector<int32_t> text = {3, 7};
  SpeculateStats stats;
};

ToyRun RunToy(DraftSource* source, const SamplerOptions& options) {
  ToyRun run;
  Sampler sampler(options);
  for (const int32_t id : run.text) sampler.Accept(id);
  if (source == nullptr) {
    WriteToy(nullptr, &sampler, nullptr, false, 400, &run.text);
    return run;
  }
  Speculator speculator(*source, {.max_tokens = 7, .follows_times = false}, kToyVocab);
  WriteToy(&speculator, &sampler, nullptr, false, 400, &run.text);
  run.stats = speculator.stats();
  return run;
}

// What the toy writes next is known by its last two tokens, so that what followed them before is
// right, and a source that drafts one token leaves it much to do.
TEST(ExtendedToy, AddsTokensThatAreAccepted) {
  SamplerOptions greedy = Plain();
  greedy.temperature = 0;
  FunctionDraft one([](const DraftRequest& request) {
    request.tree->AddFrom(DraftTree::kText, {.all = ToyLogits(request.ids)});
  });
  ExtendedDraft extended(&one);
  const ToyRun plain = RunToy(nullptr, greedy);
  const ToyRun alone = RunToy(&one, greedy);
  const ToyRun with = RunToy(&extended, greedy);
  EXPECT_EQ(alone.text, plain.text);
  EXPECT_EQ(with.text, plain.text);
  const auto per_draft = [](const SpeculateStats& stats) {
    return static_cast<double>(stats.n_accepted) / static_cast<double>(stats.n_drafts);
  };
  EXPECT_LE(per_draft(alone.stats), 1);
  EXPECT_GT(per_draft(with.stats), 4);
}

TEST(ExtendedToy, NoSourceChangesTheText) {
  const std::vector<std::pair<std::string, FunctionDraft::Propose>> sources = {
      {"wrong", [](const DraftRequest& r) { r.tree->Add(DraftTree::kText, 5, 1); }},
      {"out of range", [](const DraftRequest& r) { r.tree->Add(DraftTree::kText, 1 << 20, 1); }},
      {"nan",
       [](const DraftRequest& r) {
         const std::vector<float> logits(kToyVocab, std::numeric_limits<float>::quiet_NaN());
         r.tree->AddFrom(DraftTree::kText, {.all = logits});
       }},
      {"nothing", [](const DraftRequest&) {}},
      {"throws", [](const DraftRequest&) { throw std::runtime_error("gone"); }},
  };
  for (const float temperature : {0.0F, 0.8F}) {
    SamplerOptions options = Plain();
    options.temperature = temperature;
    options.seed = 11;
    const ToyRun plain = RunToy(nullptr, options);
    for (const auto& [name, propose] : sources) {
      FunctionDraft source(propose);
      ExtendedDraft extended(&source);
      EXPECT_EQ(RunToy(&extended, options).text, plain.text) << name << " at " << temperature;
    }
  }
}

}  // namespace
}  // namespace thermocline
