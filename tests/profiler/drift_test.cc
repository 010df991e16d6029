#include "profiler/activations/drift.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "profiler/activations/drift_run.h"
#include "profiler/activations/profile_run.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

constexpr int64_t kNeurons = 128;
constexpr int64_t kHot = 32;

// One layer of which the first 32 neurons are hot, and one that lies on the fast tier whole.
Placement FirstAreHot() {
  Placement placement;
  for (const int64_t n_fast : {kHot, kNeurons}) {
    LayerPlacement& layer = placement.layers.emplace_back();
    layer.neuron_order.resize(kNeurons);
    std::iota(layer.neuron_order.begin(), layer.neuron_order.end(), 0);
    layer.n_on = {n_fast, kNeurons - n_fast, 0};
  }
  return placement;
}

class Drift : public testing::Test {
 protected:
  // Tokens in which neurons [first, first + 32) fire with a share of 0.5, and others of 0.02.
  void Read(const std::string& name, int64_t first, int n_tokens) {
    simulation_.BeginText(name);
    for (int t = 0; t < n_tokens; ++t) {
      std::vector<uint64_t> bits(ActiveWords(kNeurons));
      for (int64_t i = 0; i < kNeurons; ++i) {
        const bool hot = i >= first && i < first + kHot;
        if (random_() % 100 < (hot ? 50U : 2U)) {
          bits[static_cast<size_t>(i / 64)] |= uint64_t{1} << (i % 64);
        }
      }
      const ActiveBits layers[] = {bits, bits};
      simulation_.OnToken(layers);
    }
  }

  std::mt19937 random_{5};
  DriftSimulation simulation_{kNeurons, FirstAreHot(), MoveOptions{}};
};

TEST_F(Drift, ATextOfThePlacementsKindLosesNothing) {
  Read("steady", 0, 2000);
  const DriftedText text = simulation_.Texts().front();
  EXPECT_EQ(text.n_tokens, 2000);
  EXPECT_EQ(text.fixed, text.best);
  EXPECT_EQ(text.moving, text.fixed);
  EXPECT_EQ(text.n_swaps, 0);
  EXPECT_EQ(text.Recovered(), 0);
}

TEST_F(Drift, AnotherTextIsFollowed) {
  Read("steady", 0, 2000);
  Read("other", 64, 4000);
  const DriftedText text = simulation_.Texts().back();
  EXPECT_LT(text.fixed / text.activations, 0.1);
  EXPECT_GT(text.best / text.activations, 0.8);
  EXPECT_GT(text.Recovered(), 0.75);
  EXPECT_GE(text.n_swaps, kHot - 3);
  DriftedText sum;
  for (const DriftedText& each : simulation_.Texts()) sum.Add(each);
  EXPECT_EQ(sum.n_tokens, 6000);
  EXPECT_EQ(sum.n_swaps, text.n_swaps);
}

// The embedded model's own counts: a placement made from one book, then a text like it, and three
// of other kinds. What is asserted is what docs/placement.md promises.
class ClassicsModelDrift : public testing::Test {
 protected:
  static std::string Demo(const std::string& name) {
    return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/" + name;
  }
  // The beginning of all files of this tree with an ending in a folder, end to end.
  std::string TextOfTree(const std::string& folder, const std::string& ending) const {
    constexpr size_t kMaxBytes = 40'000;
    std::vector<std::filesystem::path> paths;
    const std::filesystem::path root(THERMOCLINE_SOURCE_DIR);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (entry.path().extension() == ending) paths.push_back(entry.path());
    }
    std::ranges::sort(paths);
    std::string text;
    for (const auto& path : paths) {
      std::ifstream file(path, std::ios::binary);
      text.append(std::istreambuf_iterator<char>(file), {});
      if (text.size() > kMaxBytes) break;
    }
    text.resize(std::min(text.size(), kMaxBytes));
    WriteWholeFile(dir_.file(folder), text);
    return dir_.file(folder);
  }

  TempDir dir_;
};

TEST_F(ClassicsModelDrift, MovingBringsBackHalfOfWhatIsLostAndCostsASteadyTextNothing) {
  constexpr int64_t kTokens = 3000;
  EngineOptions options;
  options.model_path = Demo("classics-9m-relu-q8_0.gguf");
  options.sparse = "dense";
  options.n_threads = 2;
  Engine engine(options);
  ProfileOptions profile;
  profile.text_path = Demo("calibration.txt");
  profile.heldout_path = Demo("heldout.txt");
  profile.max_tokens = kTokens;
  ProfileTexts texts(engine.model(), engine.tokenizer(), profile);
  ProfileRun run(engine, texts, profile);
  run.Calibrate();
  std::vector<DriftSimulation> simulations;
  for (const double share : {0.1, 0.3, 0.5}) {
    simulations.emplace_back(engine.config().d_ff, HottestShare(run.stats(), share), MoveOptions{});
  }
  const std::vector<std::string> kinds = {Demo("heldout.txt"), TextOfTree("docs", ".md"),
                                          TextOfTree("runtime", ".cc")};
  RunDrift(engine, kinds, {.max_tokens = kTokens, .activation_threshold = 0, .progress = {}},
           simulations);
  for (const DriftSimulation& simulation : simulations) {
    const std::vector<DriftedText> found = simulation.Texts();
    ASSERT_EQ(found.size(), kinds.size());
    EXPECT_GE(found[0].moving, found[0].fixed);
    DriftedText drifting;
    for (size_t i = 1; i < found.size(); ++i) drifting.Add(found[i]);
    // There is something to bring back, and at least half of it comes.
    EXPECT_GT(drifting.Lost(), 0.02 * drifting.activations);
    EXPECT_GE(drifting.Recovered(), 0.5);
    DriftedText all = drifting;
    all.Add(found[0]);
    EXPECT_GE(all.Recovered(), 0.5);
    EXPECT_LE(all.moving, all.activations);
  }
}

}  // namespace
}  // namespace thermocline
