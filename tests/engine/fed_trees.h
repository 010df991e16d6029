// Trees of tokens behind a text, fed in passes, against the same tokens fed one by one along each
// path.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {

// Tokens, and which of them each follows; -1: the text.
struct TokenTree {
  std::vector<int32_t> ids;
  std::vector<int32_t> parents;

  std::vector<int32_t> PathTo(int32_t token) const {
    std::vector<int32_t> path;
    for (; token >= 0; token = parents[static_cast<size_t>(token)]) path.push_back(token);
    std::ranges::reverse(path);
    return path;
  }
};

// Every second token follows the one before it, so that there are paths of some length.
inline TokenTree RandomTree(int seed, size_t n) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  TokenTree tree;
  for (size_t i = 0; i < n; ++i) {
    const auto before = static_cast<int32_t>(i) - 1;
    tree.ids.push_back(3 + static_cast<int32_t>(random() % 200));
    const bool follows = random() % 2 == 0;
    tree.parents.push_back(follows ? before : static_cast<int32_t>(random() % (i + 1)) - 1);
  }
  return tree;
}

// What a text and a tree behind it are compared with; beside the main sequence, whose text it is.
class FedTrees {
 public:
  // tolerance: of logits; 0: the same bits.
  FedTrees(Engine& engine, double tolerance) : engine_(engine), tolerance_(tolerance) {}

  // Feeds the tree behind the main sequence's text, so many tokens a pass, and expects of each what
  // its path gives token by token. Leaves the path to a token there, and feeds two more tokens.
  void ExpectPaths(const TokenTree& tree, size_t per_pass, int32_t kept) {
    KvSequences& kv = engine_.sequences();
    const int32_t main = engine_.main_sequence();
    const int64_t begin = kv.length(main);
    std::vector<std::vector<float>> expected(tree.ids.size());
    const int32_t fork = kv.Fork(main);
    FollowPaths(tree, -1, fork, &expected);
    kv.Remove(fork);
    for (size_t at = 0; at < tree.ids.size(); at += per_pass) {
      const size_t n = std::min(per_pass, tree.ids.size() - at);
      const SequenceInput input{.sequence = main,
                                .ids = std::span(tree.ids).subspan(at, n),
                                .all_logits = true,
                                .tree_begin = begin,
                                .parents = std::span(tree.parents).first(at + n)};
      const auto logits = engine_.FeedSequences({&input, 1});
      const auto width = logits.size() / n;
      for (size_t i = 0; i < n; ++i) {
        Expect(logits.subspan(i * width, width), expected[at + i], at + i);
      }
    }
    const std::vector<int32_t> path = tree.PathTo(kept);
    const std::vector<int32_t> more = {17, 29};
    const std::vector<float> behind = BehindPath(tree, path, more, begin);
    engine_.KeepPath(main, begin, path);
    ASSERT_EQ(kv.length(main), begin + std::ssize(path));
    std::vector<float> found;
    for (const int32_t id : more) {
      const auto logits = engine_.Feed({&id, 1});
      found.assign(logits.begin(), logits.end());
    }
    Expect(found, behind, tree.ids.size());
    engine_.Truncate(begin + std::ssize(path));
  }

 private:
  std::vector<float> FeedOne(int32_t sequence, int32_t id) {
    const SequenceInput one{.sequence = sequence, .ids = {&id, 1}};
    const auto logits = engine_.FeedSequences({&one, 1});
    return {logits.begin(), logits.end()};
  }

  // Fills in the logits behind each token that follows `parent`, of a sequence that has the path to
  // that.
  void FollowPaths(const TokenTree& tree, int32_t parent, int32_t sequence,
                   std::vector<std::vector<float>>* logits) {
    KvSequences& kv = engine_.sequences();
    const int64_t n_before = kv.length(sequence);
    for (size_t i = 0; i < tree.ids.size(); ++i) {
      if (tree.parents[i] != parent) continue;
      (*logits)[i] = FeedOne(sequence, tree.ids[i]);
      FollowPaths(tree, static_cast<int32_t>(i), sequence, logits);
      kv.Truncate(sequence, n_before);
    }
  }

  // The logits behind a path and more, fed one by one to a fork of the first `begin` tokens of the
  // text.
  std::vector<float> BehindPath(const TokenTree& tree, const std::vector<int32_t>& path,
                                const std::vector<int32_t>& more, int64_t begin) {
    KvSequences& kv = engine_.sequences();
    const int32_t fork = kv.Fork(engine_.main_sequence());
    kv.Truncate(fork, begin);
    for (const int32_t token : path) FeedOne(fork, tree.ids[static_cast<size_t>(token)]);
    std::vector<float> last;
    for (const int32_t id : more) last = FeedOne(fork, id);
    kv.Remove(fork);
    return last;
  }

  void Expect(std::span<const float> found, const std::vector<float>& expected, size_t token) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      if (tolerance_ > 0) {
        ASSERT_NEAR(found[i], expected[i], tolerance_) << "behind token " << token;
      } else {
        ASSERT_EQ(found[i], expected[i]) << "behind token " << token;
      }
    }
  }

  Engine& engine_;
  double tolerance_;
};

}  // namespace thermocline
