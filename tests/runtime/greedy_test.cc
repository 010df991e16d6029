// Skipping inactive neurons and splitting them between the tiers must not change what the model
// writes: 200 prompts of 32 tokens of held-out text, 64 greedy tokens each, exact mode at every
// split against the dense run in one tier. "The same" is: equal, or the two best tokens of the
// dense run lie closer, where the texts part, than the noise that another order of summation makes
// in the dense run itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine.h"
#include "runtime/evaluate.h"
#include "tests/runtime/placements.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

constexpr size_t kPrompts = 200;
constexpr size_t kPromptTokens = 32;
constexpr size_t kGreedyTokens = 64;

struct Continuation {
  std::vector<int32_t> ids;
  std::vector<float> margins;
};

class GreedyText : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(demo_ + "heldout.txt", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto engine = Open("dense", -1);
    fingerprint_ = engine->model().gguf().fingerprint();
    const auto ids = engine->tokenizer().Encode(text);
    const size_t length = kPromptTokens - 1;
    ASSERT_GE(ids.size(), kPrompts * length);
    for (size_t p = 0; p < kPrompts; ++p) {
      std::vector<int32_t> prompt = {engine->tokenizer().bos_id()};
      const auto begin = ids.begin() + static_cast<int64_t>(p * length);
      prompt.insert(prompt.end(), begin, begin + static_cast<int64_t>(length));
      prompts_.push_back(prompt);
    }
  }

  std::unique_ptr<Engine> Open(const std::string& sparse, double hot_share) {
    EngineOptions options;
    options.model_path = demo_ + "classics-9m-relu-q8_0.gguf";
    options.sparse = sparse;
    options.n_threads = 2;
    options.always_per_neuron = true;
    if (hot_share >= 0) {
      options.placement_path = directory_.file("p.gguf");
      WritePlacement(options.placement_path, ShuffledPlacement(fingerprint_, 8, 1024, hot_share));
    }
    return std::make_unique<Engine>(options);
  }

  static Continuation Continue(Engine& engine, const std::vector<int32_t>& prompt) {
    Continuation out;
    engine.Reset();
    auto logits = engine.Feed(prompt);
    while (out.ids.size() < kGreedyTokens) {
      const BestToken best = FindBest(logits);
      out.ids.push_back(best.id);
      out.margins.push_back(best.margin);
      logits = engine.Feed({&best.id, 1});
    }
    return out;
  }

  // The largest change of a logit between two engines that are fed the same tokens.
  double Noise(Engine& a, Engine& b, const std::vector<Continuation>& texts) {
    double most = 0;
    for (size_t p = 0; p < 10; ++p) {
      a.Reset();
      b.Reset();
      std::vector<int32_t> next = prompts_[p];
      for (size_t i = 0; i < kGreedyTokens; ++i) {
        const auto x = a.Feed(next);
        const auto y = b.Feed(next);
        for (size_t j = 0; j < x.size(); ++j) {
          most = std::max(most, std::abs(static_cast<double>(x[j]) - static_cast<double>(y[j])));
        }
        next = {texts[p].ids[i]};
      }
    }
    return most;
  }

  const std::string demo_ = std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/";
  std::string fingerprint_;
  std::vector<std::vector<int32_t>> prompts_;
  TempDir directory_;
};

TEST_F(GreedyText, ExactEqualsDenseAtEverySplit) {
  const auto dense = Open("dense", -1);
  std::vector<Continuation> reference;
  for (const auto& prompt : prompts_) reference.push_back(Continue(*dense, prompt));
  const double noise = Noise(*dense, *Open("dense", 0.5), reference);
  std::cout << "noise of another order of summation: " << noise << " in the logits\n";
  EXPECT_LT(noise, 0.2);  // logits span about 20: more than this is not rounding

  for (const double split : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    const auto exact = Open("exact", split);
    size_t identical = 0;
    size_t near_ties = 0;
    for (size_t p = 0; p < kPrompts; ++p) {
      const Continuation found = Continue(*exact, prompts_[p]);
      const auto& expected = reference[p].ids;
      const auto parted = std::mismatch(expected.begin(), expected.end(), found.ids.begin()).first;
      const auto same = static_cast<size_t>(parted - expected.begin());
      identical += same;
      if (same == kGreedyTokens) continue;
      ++near_ties;
      EXPECT_LE(reference[p].margins[same], 2 * noise)
          << "prompt " << p << ", token " << same << ", split " << split;
    }
    std::cout << "split " << split << ": " << identical << "/" << kPrompts * kGreedyTokens
              << " tokens before a near-tie, " << near_ties << " near-ties\n";
    EXPECT_LE(near_ties * 1000, kPrompts * kGreedyTokens) << "split " << split;
  }
}

}  // namespace
}  // namespace thermocline
