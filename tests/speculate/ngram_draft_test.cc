#include "runtime/speculate/ngram_draft.h"

#include <gtest/gtest.h>

#include "tests/sampling/distributions.h"
#include "tests/speculate/toy_text.h"

namespace thermocline {
namespace {

std::vector<int32_t> Proposed(NgramDraft& draft, const std::vector<int32_t>& ids, int64_t most) {
  const Sampler sampler(Plain());
  const Confidence confidence;
  DraftTree tree({.vocab_size = 1000, .max_depth = most, .max_nodes = most}, sampler, nullptr,
                 confidence);
  const DraftRequest request{.ids = ids, .tree = &tree};
  draft.Draft({&request, 1});
  std::vector<int32_t> tokens;
  for (const DraftTree::Node& node : tree.nodes()) tokens.push_back(node.token);
  return tokens;
}

TEST(NgramDraft, GoesOnFromTheLongestMatch) {
  NgramDraft draft;
  EXPECT_EQ(Proposed(draft, {}, 3), std::vector<int32_t>());
  EXPECT_EQ(Proposed(draft, {5}, 3), std::vector<int32_t>());
  EXPECT_EQ(Proposed(draft, {5, 6, 7}, 3), std::vector<int32_t>());
  // "1 2 3" stands at the beginning, "2 3" later as well.
  EXPECT_EQ(Proposed(draft, {1, 2, 3, 40, 41, 9, 2, 3, 50, 9, 1, 2, 3}, 2),
            (std::vector<int32_t>{40, 41}));
  // Of equally long ones the latest.
  EXPECT_EQ(Proposed(draft, {1, 2, 40, 1, 2, 50, 1, 2}, 1), (std::vector<int32_t>{50}));
}

// By node: which it follows, and its token.
std::vector<std::pair<int32_t, int32_t>> ProposedTree(const std::vector<int32_t>& ids,
                                                      int64_t most) {
  NgramDraft draft;
  const Sampler sampler(Plain());
  const Confidence confidence;
  DraftTree tree({.vocab_size = 1000, .max_depth = most, .max_nodes = most, .max_children = 2},
                 sampler, nullptr, confidence);
  const DraftRequest request{.ids = ids, .tree = &tree};
  draft.Draft({&request, 1});
  std::vector<std::pair<int32_t, int32_t>> nodes;
  for (const DraftTree::Node& node : tree.nodes()) nodes.emplace_back(node.parent, node.token);
  return nodes;
}

TEST(NgramDraft, ATreeHasWhatFollowedElsewhere) {
  const std::vector<int32_t> ids = {1, 2, 40, 41, 50, 1, 2, 40, 42, 51, 1, 2, 43, 52, 1, 2};
  // The latest first, of equally long ones; what two places have in common is there once.
  const auto nodes = ProposedTree(ids, 12);
  ASSERT_EQ(nodes.size(), 12);
  EXPECT_EQ(nodes[0], std::pair(DraftTree::kText, 43));
  const auto beside = std::ranges::find(nodes, std::pair(DraftTree::kText, 40));
  ASSERT_NE(beside, nodes.end());
  const auto at = static_cast<int32_t>(beside - nodes.begin());
  EXPECT_EQ(std::ranges::count(nodes, at, [](const auto& node) { return node.first; }), 2);
  EXPECT_NE(std::ranges::find(nodes, std::pair(at, 42)), nodes.end());
  EXPECT_NE(std::ranges::find(nodes, std::pair(at, 41)), nodes.end());
}

TEST(NgramDraft, RunsIntoWhatItProposes) {
  NgramDraft draft;
  EXPECT_EQ(Proposed(draft, {7, 8, 9, 7, 8}, 7), (std::vector<int32_t>{9, 7, 8, 9, 7, 8, 9}));
  EXPECT_EQ(Proposed(draft, {7, 7, 7}, 4), (std::vector<int32_t>{7, 7, 7, 7}));
}

TEST(NgramDraft, FollowsATextThatIsCutOrAnother) {
  NgramDraft draft;
  EXPECT_EQ(Proposed(draft, {1, 2, 3, 1, 2}, 1), (std::vector<int32_t>{3}));
  EXPECT_EQ(Proposed(draft, {1, 2, 3, 1, 2, 4, 1, 2}, 1), (std::vector<int32_t>{4}));
  EXPECT_EQ(Proposed(draft, {1, 2, 3, 1, 2}, 1), (std::vector<int32_t>{3}));
  EXPECT_EQ(Proposed(draft, {1, 2, 9, 1, 2}, 1), (std::vector<int32_t>{9}));
}

// The index against a search through the whole text.
TEST(NgramDraft, FindsWhatASearchFinds) {
  Random random(3);
  NgramIndex index;
  std::vector<int32_t> ids;
  for (int i = 0; i < 400; ++i) {
    ids.push_back(static_cast<int32_t>(random.Uniform() * 4));
    index.Follow(ids);
    int64_t best = 0;
    const auto n = static_cast<int64_t>(ids.size());
    for (int64_t at = n - 2; at >= 1 && best < NgramIndex::kLongest; --at) {
      int64_t length = 0;
      while (at - length >= 0 && length < NgramIndex::kLongest &&
             ids[static_cast<size_t>(at - length)] == ids[static_cast<size_t>(n - 1 - length)]) {
        ++length;
      }
      if (length >= NgramIndex::kFewest) best = std::max(best, length);
    }
    const NgramIndex::Match match = index.Find();
    // Only so many places are compared, the latest first.
    if (i < 200) {
      EXPECT_EQ(match.length, best) << i;
    }
    EXPECT_LE(match.length, best);
    for (int64_t k = 0; k < match.length; ++k) {
      EXPECT_EQ(ids[static_cast<size_t>(match.next - 1 - k)], ids[static_cast<size_t>(n - 1 - k)]);
    }
  }
}

}  // namespace
}  // namespace thermocline
