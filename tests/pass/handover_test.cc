// What happens when a tier fails in the middle of a layer: one error reaches the caller, nobody
// hangs, and the next pass works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/load/weights.h"
#include "runtime/pass/executor.h"
#include "tests/pass/failing_device.h"
#include "tests/placement/placements.h"

namespace thermocline {
namespace {

class Handing : public testing::TestWithParam<int> {
 protected:
  Handing()
      : gguf_(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf"),
        family_(FindFamily(gguf_)),
        config_(ReadModelConfig(gguf_, family_)),
        limits_(MakeCpuDeviceLimits(config_, 8, 64, GetParam())),
        team_(GetParam()),
        fast_("fast", limits_),
        slow_("slow", limits_),
        cache_(config_, DType::kF16, MakeKvLayout(config_, KvPagesFor(64))) {
    placement_ = ShuffledPlacement(gguf_.fingerprint(), config_.n_layers, config_.d_ff, 0.4);
    LoadOptions load;
    load.placement = &placement_;
    Device* const tiers[] = {&fast_, &slow_};
    loaded_ = LoadWeights(gguf_, family_, config_, load, tiers);
    executor_ = std::make_unique<Executor>(
        config_, loaded_->weights,
        ExecutorOptions{.max_tokens = 8, .max_logits = 1, .mode = SparseMode::kExact}, team_,
        cache_, tiers);
  }

  std::vector<float> Pass(const std::vector<int32_t>& ids) {
    const auto logits = executor_->Run(executor_->OnlySequence(ids, 0));
    return {logits.begin(), logits.end()};
  }

  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  CpuDeviceLimits limits_;
  ThreadTeam team_;
  FailingDevice fast_;
  FailingDevice slow_;
  HostKvCache cache_;
  Placement placement_;
  std::unique_ptr<LoadedWeights> loaded_;
  std::unique_ptr<Executor> executor_;
};

TEST_P(Handing, AFailingTierIsReportedOnceAndTheNextPassWorks) {
  const std::vector<int32_t> prompt = {1, 40, 50, 60, 70};
  const std::vector<int32_t> token = {80};
  const auto prompt_logits = Pass(prompt);
  const auto token_logits = Pass(token);
  for (FailingDevice* device : {&fast_, &slow_}) {
    for (const int call : {1, 2}) {  // in the first and in the second layer
      for (const auto& ids : {prompt, token}) {
        device->FailAtCall(call);
        EXPECT_THAT([&] { Pass(ids); }, testing::ThrowsMessage<Error>(device->name() + " failed"));
        EXPECT_EQ(Pass(prompt), prompt_logits);
        EXPECT_EQ(Pass(token), token_logits);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Handing, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace thermocline
