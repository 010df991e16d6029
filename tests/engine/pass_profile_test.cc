// Sums, shares and what is kept, on spans made by hand; and that the tiers of a CPU run fill it.
#include "runtime/timing/pass_profile.h"

#include <gtest/gtest.h>

#include "runtime/engine/engine.h"
#include "tests/placement/placements.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

int64_t NsOf(const PassTimes& times, PassPart part) { return times[static_cast<size_t>(part)]; }

TEST(PassProfile, TheGpusIdleShareIsItsWaitsAndTheTimeBetweenPasses) {
  PassProfile profile(1);
  EXPECT_FALSE(profile.has_gpu());
  EXPECT_EQ(profile.gpu_idle_share(), 0);
  const auto pass = [&](int64_t start_ns) {
    const PassSpan spans[] = {{start_ns, start_ns + 30, 0, PassPart::kGate},
                              {start_ns + 30, start_ns + 40, 0, PassPart::kAwait},
                              {start_ns + 40, start_ns + 70, 0, PassPart::kMerge}};
    profile.AddGpuPass(spans);
  };
  pass(1000);
  EXPECT_DOUBLE_EQ(profile.gpu_idle_share(), 10.0 / 70);
  pass(1080);  // 10 behind the end of the first
  EXPECT_EQ(profile.gpu_between_ns(), 10);
  EXPECT_DOUBLE_EQ(profile.gpu_idle_share(), 30.0 / 150);
  profile.Resume();
  pass(9000);
  EXPECT_EQ(profile.gpu_between_ns(), 10) << "another sequence is no idle time";
  EXPECT_EQ(NsOf(profile.gpu_times(), PassPart::kGate), 90);
  profile.AddGpuPass({});
  EXPECT_EQ(profile.gpu_between_ns(), 10);
}

TEST(PassProfile, APassWithoutMarksIsIdle) {
  PassProfile profile(2);
  profile.BeginPass();
  profile.EndPass(3);
  EXPECT_EQ(profile.passes(), 1);
  EXPECT_EQ(profile.tokens(), 3);
  const int64_t all_ns = NsOf(profile.thread_times(0), PassPart::kFinish);
  EXPECT_GE(all_ns, 0);
  EXPECT_EQ(profile.cpu_idle_share(), all_ns > 0 ? 1 : 0);
}

TEST(PassProfile, KeepsTheFirstPassesWholeAndNoLaterOnes) {
  constexpr int64_t kKeep = 10;
  PassProfile profile(1, kKeep);
  for (int pass = 0; pass < 8; ++pass) {
    profile.BeginPass();
    for (int i = 0; i < 2; ++i) profile.timer(0)->Mark(PassPart::kGate);
    profile.EndPass(1);
  }
  // A pass takes 3 spans and a line of its own: the third begins with room for 2 more.
  EXPECT_EQ(profile.passes(), 8);
  EXPECT_EQ(profile.kept_passes().size(), 3U);
  EXPECT_EQ(profile.thread_spans(0).size(), 9U);
  EXPECT_EQ(profile.thread_spans(0).back().end_ns, profile.kept_passes().back().end_ns);
}

TEST(PassProfile, TrafficIsSummedByDirection) {
  BusTraffic first;
  first.Add(BusLoad::kInputs, 5);
  BusTraffic then = first;
  then.Add(BusLoad::kColdY, 7);
  then.Add(BusLoad::kColdX, 11);
  const BusTraffic difference = then.Since(first);
  EXPECT_EQ(difference.Sum(true), 7U);
  EXPECT_EQ(difference.Sum(false), 11U);
  EXPECT_EQ(then.Sum(true), 12U);
}

// With two tiers of the host, what each tier does is accounted for, layer by layer, and no bit
// changes.
TEST(PassProfile, ThreadsOfBothTiersAreTimed) {
  EngineOptions options;
  options.model_path = THERMOCLINE_SOURCE_DIR "/tests/golden/gqa_relu.gguf";
  options.fast_tier = FastTier::kCpu;
  options.n_threads = 2;
  options.always_per_neuron = true;
  TempDir dir;
  const OpenedModel opened(options);
  options.placement_path = dir.file("placement");
  WritePlacement(options.placement_path,
                 ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                   opened.config().d_ff, 0.5));
  const auto logits = [](Engine& engine) {
    const std::vector<int32_t> ids = {5, 6, 7};
    const auto last = engine.Feed(ids);
    return std::vector<float>(last.begin(), last.end());
  };
  Engine engine(options);
  const auto expected = logits(engine);
  engine.Reset();
  PassProfile profile(2, 100'000);
  engine.executor().set_profile(&profile);
  EXPECT_EQ(logits(engine), expected);
  engine.executor().set_profile(nullptr);
  EXPECT_FALSE(profile.has_gpu());
  EXPECT_EQ(profile.traffic().Sum(true) + profile.traffic().Sum(false), 0U);
  for (int thread = 0; thread < 2; ++thread) {
    int64_t n_merges = 0;
    int64_t n_waits = 0;  // for the other tier: the fast one merges, the slow one begins and merges
    for (const PassSpan& span : profile.thread_spans(thread)) {
      n_merges += span.part == PassPart::kMerge ? 1 : 0;
      n_waits += span.part == PassPart::kAwait ? 1 : 0;
    }
    EXPECT_EQ(n_merges, engine.config().n_layers) << thread;
    EXPECT_EQ(n_waits, (thread == 0 ? 1 : 2) * engine.config().n_layers) << thread;
  }
}

}  // namespace
}  // namespace thermocline
