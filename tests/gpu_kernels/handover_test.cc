#include "gpu_kernels/tokens/handover.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "gpu_kernels/tokens/norms.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint32_t kForeverMs = 50'000;  // longer than the host's patience
constexpr float kEpsilon = 1e-5F;

// The CPU tier: y = 2 x for hand-overs 1 to `last`. Gives up when nothing comes for long, so that a
// hand-over gone wrong fails a test instead of stopping it.
void AnswerUpTo(const GpuHandover& handover, uint32_t last, int64_t n) {
  using Clock = std::chrono::steady_clock;
  for (uint32_t number = 1; number <= last; ++number) {
    const Clock::time_point give_up = Clock::now() + std::chrono::seconds(40);
    while (handover.Published() != number) {
      if (Clock::now() > give_up) FAIL() << "hand-over " << number << " was not published";
      std::this_thread::yield();
    }
    for (int64_t i = 0; i < n; ++i) handover.y()[i] = 2 * handover.x()[i];
    handover.Answer(number);
  }
}

// Two layers over `n_tokens` tokens of width d: layer 0 has a hot part and a norm behind it, layer
// 1 neither.
struct TwoLayers {
  TwoLayers(int64_t n, int64_t d)
      : n_tokens(n),
        d_model(d),
        x_start(RandomValues(static_cast<size_t>(n * d), 1)),
        hot_values(RandomValues(static_cast<size_t>(n * d), 2)),
        weight_values(RandomValues(static_cast<size_t>(d), 3)),
        x(stream, x_start),
        hot(stream, hot_values),
        weight(stream, weight_values),
        out(stream, std::vector<float>(static_cast<size_t>(n * d))),
        handover(stream, {n + 1, d}, kForeverMs) {}

  void Enqueue() {
    handover.Publish(stream, x.data(), n_tokens);
    handover.Await(stream, 0);
    handover.Merge(stream, x.data(), hot.data(), n_tokens);
    GpuNormRows(stream, norm(), x.data(), n_tokens, d_model, out.data());
    handover.Publish(stream, out.data(), n_tokens);
    handover.Await(stream, 1);
    handover.Merge(stream, x.data(), nullptr, n_tokens);
  }
  GpuNorm norm() const { return {.weight = weight.data(), .epsilon = kEpsilon}; }
  // One pass of the same in plain C++ with the tested norm.
  std::vector<float> Expected(std::vector<float> values) {
    std::vector<float> both = values;
    for (size_t i = 0; i < values.size(); ++i) both[i] = values[i] + hot_values[i] + 2 * values[i];
    const OnDevice<float> normed(stream, both);
    GpuNormRows(stream, norm(), normed.data(), n_tokens, d_model, normed.data());
    const std::vector<float> cold = normed.Read();
    for (size_t i = 0; i < both.size(); ++i) both[i] += 2 * cold[i];
    return both;
  }

  int64_t n_tokens;
  int64_t d_model;
  Stream stream;
  std::vector<float> x_start, hot_values, weight_values;
  OnDevice<float> x, hot, weight, out;
  GpuHandover handover;
};

using GpuHandoverTest = GpuTest;

TEST_F(GpuHandoverTest, TheCpusPartIsMerged) {
  for (const int64_t n_tokens : {1, 3}) {
    for (const int64_t d_model : {1, 70, 512, 2080}) {
      SCOPED_TRACE(testing::Message() << n_tokens << " tokens of " << d_model);
      InEveryOrder([&] {
        TwoLayers layers(n_tokens, d_model);
        std::thread cpu([&] { AnswerUpTo(layers.handover, 2, n_tokens * d_model); });
        layers.Enqueue();
        cpu.join();
        EXPECT_EQ(layers.x.Read(), layers.Expected(layers.x_start));
        EXPECT_FALSE(layers.handover.Lost());
        layers.handover.ThrowIfLost();
      });
    }
  }
}

TEST_F(GpuHandoverTest, AReplayedGraphCountsOn) {
  TwoLayers layers(2, 96);
  layers.stream.Synchronize();
  GraphCapture capture(layers.stream);
  layers.Enqueue();
  Graph graph = capture.Finish();
  constexpr uint32_t kSteps = 4;
  std::thread cpu([&] { AnswerUpTo(layers.handover, 2 * kSteps, 2 * 96); });
  std::vector<float> expected = layers.x_start;
  for (uint32_t step = 0; step < kSteps; ++step) {
    graph.Launch(layers.stream);
    expected = layers.Expected(expected);
  }
  cpu.join();
  EXPECT_EQ(layers.x.Read(), expected);
  EXPECT_EQ(layers.handover.Published(), 2 * kSteps);
}

// Nobody answers: the step ends all the same, and the error names the layer that waited first.
TEST_F(GpuHandoverTest, ALostAnswerIsAnErrorThatNamesTheLayer) {
  Stream stream;
  const std::vector<float> values = RandomValues(3 * 40, 1);
  const OnDevice<float> x(stream, values);
  GpuHandover handover(stream, {3, 40}, 5);
  for (const int32_t layer : {7, 8}) {
    handover.Publish(stream, x.data(), 3);
    handover.Await(stream, layer);
    handover.Merge(stream, x.data(), nullptr, 3);
  }
  EXPECT_EQ(x.Read(), values) << "what was lost changes nothing";
  EXPECT_TRUE(handover.Lost());
  EXPECT_EQ(handover.Published(), 2U) << "the CPU's count must not fall behind";
  EXPECT_THAT(MessageOf([&] { handover.ThrowIfLost(); }),
              AllOf(HasSubstr("layer 7 was not handed over"),
                    HasSubstr("expected hand-over 1 within 5 ms"), HasSubstr("found 0")));
}

}  // namespace
}  // namespace thermocline
