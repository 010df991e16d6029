// What happens when a tier fails in the middle of a layer: one error reaches the caller, nobody
// hangs, and the next step works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/cpu_device.h"
#include "runtime/executor.h"
#include "runtime/weights.h"
#include "tests/runtime/placements.h"

namespace thermocline {
namespace {

// A CPU device whose FFN throws on one lane, in the call it was told.
class FailingDevice final : public Device {
 public:
  FailingDevice(const std::string& name, const CpuDeviceLimits& limits) : inner_(name, limits) {}
  void FailAtCall(int call) { calls_left_ = call; }

  const std::string& name() const override { return inner_.name(); }
  void* Allocate(uint64_t n_bytes, const std::string& purpose) override {
    return inner_.Allocate(n_bytes, purpose);
  }
  void Upload(void* destination, const void* source, uint64_t n_bytes) override {
    inner_.Upload(destination, source, n_bytes);
  }
  uint64_t allocated_bytes() const override { return inner_.allocated_bytes(); }
  TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                       const std::string& purpose) override {
    return inner_.StoreRows(source, rows, purpose);
  }
  std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                       int64_t max_seq_len) override {
    return inner_.MakeKvCache(config, dtype, max_seq_len);
  }
  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override {
    inner_.Embed(lane, table, ids, x);
  }
  void RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
               int64_t d, float* out) override {
    inner_.RmsNorm(lane, x, weight, eps, n, d, out);
  }
  void Linear(const Lane& lane, std::span<const LinearStep> steps, const float* x,
              int64_t n) override {
    inner_.Linear(lane, steps, x, n);
  }
  void RopeAppend(const Lane& lane, const RopeStep& rope, const KvCache& cache,
                  const AttentionStep& step, float* q, float* k, const float* v) override {
    inner_.RopeAppend(lane, rope, cache, step, q, k, v);
  }
  void Attend(const Lane& lane, const KvCache& cache, const AttentionStep& step, const float* q,
              float* out) override {
    inner_.Attend(lane, cache, step, q, out);
  }
  FfnCount Ffn(const Lane& lane, const FfnStep& step, const float* x, int64_t n,
               const FfnState& state) override {
    if (lane.rank == 0 && calls_left_ > 0 && --calls_left_ == 0) {
      throw Error({.what = name() + " failed"});
    }
    return inner_.Ffn(lane, step, x, n, state);
  }
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override {
    inner_.Add(lane, x, ys, n);
  }
  void AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight, float eps,
                  int64_t n, int64_t d, float* out) override {
    inner_.AddRmsNorm(lane, x, y, weight, eps, n, d, out);
  }

 private:
  CpuDevice inner_;
  int calls_left_ = 0;
};

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
        cache_(config_, DType::kF16, 64) {
    placement_ = ShuffledPlacement(gguf_.fingerprint(), config_.n_layers, config_.d_ff, 0.4);
    LoadOptions load;
    load.placement = &placement_;
    loaded_ = LoadWeights(gguf_, family_, config_, load, fast_, &slow_);
    executor_ = std::make_unique<Executor>(
        config_, loaded_->weights,
        ExecutorOptions{.max_tokens = 8, .max_logits = 1, .mode = SparseMode::kExact}, team_,
        cache_, fast_, &slow_);
  }

  std::vector<float> Step(const std::vector<int32_t>& ids) {
    const auto logits = executor_->Step(ids, 0, LogitsWanted::kLast);
    return {logits.begin(), logits.end()};
  }

  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  CpuDeviceLimits limits_;
  ThreadTeam team_;
  FailingDevice fast_;
  FailingDevice slow_;
  ContiguousKvCache cache_;
  Placement placement_;
  std::unique_ptr<LoadedWeights> loaded_;
  std::unique_ptr<Executor> executor_;
};

TEST_P(Handing, AFailingTierIsReportedOnceAndTheNextStepWorks) {
  const std::vector<int32_t> prompt = {1, 40, 50, 60, 70};
  const std::vector<int32_t> token = {80};
  const auto prompt_logits = Step(prompt);
  const auto token_logits = Step(token);
  for (FailingDevice* device : {&fast_, &slow_}) {
    for (const int call : {1, 2}) {  // in the first and in the second layer
      for (const auto& ids : {prompt, token}) {
        device->FailAtCall(call);
        EXPECT_THAT([&] { Step(ids); }, testing::ThrowsMessage<Error>(device->name() + " failed"));
        EXPECT_EQ(Step(prompt), prompt_logits);
        EXPECT_EQ(Step(token), token_logits);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Handing, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace thermocline
