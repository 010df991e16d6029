// How far is drafted, and when not at all. No clock is looked at: passes take what the test says.
#include "runtime/speculate/speculator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/sampling/distributions.h"
#include "tests/speculate/toy_text.h"

namespace thermocline {
namespace {

// Drafts that cost nothing, of tokens that are accepted with a probability.
class Trial {
 public:
  // row_ms: what a row more adds to a pass of 10 ms.
  Trial(double acceptance, double row_ms)
      : acceptance_(acceptance),
        row_ms_(row_ms),
        source_([](const DraftRequest& request) {
          for (int32_t at = DraftTree::kText; request.tree->WantsMore(at);) {
            at = request.tree->Add(at, 5, std::nan(""));
          }
        }),
        speculator_(source_, {.max_tokens = 16}, kToyVocab, [] { return 0.0; }) {}

  void Write(int n_tokens) {
    const Sampler sampler(Plain());
    const auto end = static_cast<size_t>(n_tokens) + ids_.size();
    while (ids_.size() < end) {
      const SpeculatedText asked{.ids = ids_, .sampler = &sampler, .most = 100};
      const auto trees = speculator_.Draft({&asked, 1});
      const auto n = static_cast<int32_t>(trees.front().nodes().size());
      speculator_.MeasurePass(trees, 0, 10 + row_ms_ * n);
      ms_ += 10 + row_ms_ * n;
      int32_t n_accepted = 0;
      while (n_accepted < n && random_.Uniform() < acceptance_) ++n_accepted;
      speculator_.Verified(0, trees.front(), n_accepted - 1, true, n_accepted + 1);
      ids_.resize(ids_.size() + static_cast<size_t>(n_accepted) + 1, 5);
      depths_.push_back(n);
    }
  }
  double mean_depth() const {
    double sum = 0;
    for (const int32_t depth : depths_) sum += depth;
    return sum / static_cast<double>(depths_.size());
  }
  double ms_per_token() const { return ms_ / static_cast<double>(ids_.size()); }
  const SpeculateStats& stats() const { return speculator_.stats(); }
  void set_acceptance(double acceptance) { acceptance_ = acceptance; }
  void Forget() {
    depths_.clear();
    ids_.clear();
    ms_ = 0;
  }

 private:
  double acceptance_;
  double row_ms_;
  FunctionDraft source_;
  Speculator speculator_;
  Random random_{1};
  std::vector<int32_t> ids_;
  std::vector<int32_t> depths_;
  double ms_ = 0;
};

// The best fixed depth's time per token, which the trial should come close to.
double BestFixed(double acceptance, double row_ms) {
  double best = 10;
  for (int k = 1; k <= 16; ++k) {
    const double tokens = (1 - std::pow(acceptance, k + 1)) / (1 - acceptance);
    best = std::min(best, (10 + row_ms * k) / tokens);
  }
  return best;
}

TEST(Speculator, DraftsAsFarAsItPays) {
  for (const auto& [acceptance, row_ms] :
       {std::pair{0.9, 0.5}, {0.9, 2.0}, {0.7, 0.5}, {0.7, 3.0}, {0.5, 1.0}}) {
    Trial trial(acceptance, row_ms);
    trial.Write(400);
    trial.Forget();
    trial.Write(3000);
    EXPECT_LT(trial.ms_per_token(), 1.08 * BestFixed(acceptance, row_ms))
        << acceptance << " " << row_ms << " depth " << trial.mean_depth();
  }
}

TEST(Speculator, LeavesOutWhatIsHardlyEverAccepted) {
  Trial trial(0.05, 6);
  trial.Write(2000);
  EXPECT_LT(trial.ms_per_token(), 10.5);
  EXPECT_GT(trial.stats().n_plain_passes, 20 * trial.stats().n_verify_passes);
  // And finds out when that changes.
  trial.set_acceptance(0.95);
  trial.Write(3000);
  trial.Forget();
  trial.Write(1000);
  EXPECT_LT(trial.ms_per_token(), 9) << "the best depth's is 7.5, and 10 is that without drafts";
}

// Whatever is drafted is right, and takes longer than it saves.
TEST(Speculator, PausesWhereItDoesNotPay) {
  double now_ms = 0;
  FunctionDraft slow([&](const DraftRequest& request) {
    now_ms += 0.4;
    request.tree->Add(DraftTree::kText, 5, 1);
  });
  Speculator speculator(slow, {.max_tokens = 1}, kToyVocab, [&] { return now_ms; });
  const Sampler sampler(Plain());
  std::vector<int32_t> ids = {5};
  while (ids.size() < 1000) {
    const SpeculatedText asked{.ids = ids, .sampler = &sampler, .most = 100};
    const auto trees = speculator.Draft({&asked, 1});
    const auto n = static_cast<int32_t>(trees.front().nodes().size());
    speculator.MeasurePass(trees, 0, 0.1);
    speculator.Verified(0, trees.front(), n - 1, true, n + 1);
    ids.resize(ids.size() + static_cast<size_t>(n) + 1, 5);
  }
  EXPECT_GE(speculator.stats().n_pauses, 3);
  EXPECT_LT(speculator.stats().n_verify_passes, 100);
  EXPECT_NEAR(speculator.stats().draft_ms, now_ms, 1e-9) << "by the clock that was given";
}

TEST(Speculator, GoesOnWhereItPays) {
  Trial good(0.9, 0.2);
  good.Write(2000);
  EXPECT_EQ(good.stats().n_pauses, 0);
  EXPECT_GT(good.stats().n_plain_passes, 2) << "now and then it measures what a plain pass takes";
  EXPECT_GT(static_cast<double>(good.stats().n_accepted),
            0.7 * static_cast<double>(good.stats().n_written));
}

TEST(Speculator, TextsShareTheRowsOfAPass) {
  FunctionDraft source([](const DraftRequest& request) {
    for (int32_t at = DraftTree::kText; request.tree->WantsMore(at);) {
      at = request.tree->Add(at, 5, 1);
    }
  });
  Speculator speculator(source, {.max_tokens = 8, .max_rows = 12, .follows_times = false}, 12);
  const Sampler sampler(Plain());
  const std::vector<int32_t> ids = {1, 2};
  std::vector<SpeculatedText> asked;
  for (int32_t text = 0; text < 4; ++text) {
    asked.push_back({.text = text, .ids = ids, .sampler = &sampler, .most = text == 0 ? 0 : 100});
  }
  const auto trees = speculator.Draft(asked);
  ASSERT_EQ(trees.size(), 4);
  EXPECT_TRUE(trees[0].empty()) << "there is no room";
  for (size_t i = 1; i < 4; ++i) EXPECT_LE(trees[i].nodes().size(), 4);
  EXPECT_GE(trees[1].nodes().size(), 3);
}

TEST(RowTimes, LineBetweenWhatWasMeasured) {
  RowTimes times;
  EXPECT_EQ(times.Of(3), 0);
  times.Measure(1, 10);
  EXPECT_FALSE(times.KnowsUpTo(1));
  times.Measure(1, 10);
  EXPECT_TRUE(times.KnowsUpTo(1));
  EXPECT_GT(times.Of(5), 10) << "a row more costs something";
  times.Measure(5, 14);
  EXPECT_DOUBLE_EQ(times.Of(3), 12);
  EXPECT_DOUBLE_EQ(times.Of(9), 18);
  for (int i = 0; i < 50; ++i) times.Measure(5, 1e6);
  EXPECT_GT(times.Of(5), 100) << "learns what stays";
}

}  // namespace
}  // namespace thermocline
