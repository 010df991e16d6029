// A model whose neurons lie on three tiers, in shares of a placement; for tests.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/device/cpu/cpu_device.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/load/model_predictor.h"
#include "runtime/load/weights.h"
#include "runtime/pass/executor.h"
#include "tests/placement/placements.h"

namespace thermocline {

// How many 32nds of every layer's neurons each tier has; the last has what is left.
struct TierShares {
  int64_t first = 8;
  int64_t second = 12;
};

class ThreeTierModel {
 public:
  static constexpr int64_t kMaxTokens = 32;
  static constexpr int64_t kContext = 64;

  ThreeTierModel(const std::string& path, const TierShares& shares, SparseMode mode, int n_threads,
                 std::span<Device* const> tiers)
      : gguf_(path),
        family_(FindFamily(gguf_)),
        config_(ReadModelConfig(gguf_, family_)),
        team_(n_threads) {
    Placement placement = ShuffledPlacement(gguf_.fingerprint(), config_.n_layers, config_.d_ff, 0);
    for (size_t l = 0; l < placement.layers.size(); ++l) {
      LayerPlacement& layer = placement.layers[l];
      const int64_t first = config_.d_ff * shares.first / 32;
      // Odd layers have nothing on the second tier.
      const int64_t second = l % 2 == 1 ? 0 : config_.d_ff * shares.second / 32;
      layer.n_on = {first, second, config_.d_ff - first - second};
    }
    LoadOptions load;
    load.placement = &placement;
    loaded_ = LoadWeights(gguf_, family_, config_, load, tiers);
    if (mode == SparseMode::kPredicted) {
      predictor_ =
          std::make_unique<ModelPredictor>(std::string(kSignPredictor), 0.95, gguf_, config_);
      predictors_ = predictor_->Load(loaded_->weights, tiers, /*placed=*/true, n_threads);
    }
    cache_ = tiers.front()->MakeKvCache(config_, DType::kF16,
                                        MakeKvLayout(config_, KvPagesFor(kContext)), 0);
    executor_ = std::make_unique<Executor>(
        config_, loaded_->weights,
        ExecutorOptions{.max_tokens = kMaxTokens, .max_logits = 1, .mode = mode}, team_, *cache_,
        tiers, predictors_.layers);
  }
  static CpuDeviceLimits Limits(const std::string& path, int n_threads) {
    const GgufReader gguf(path);
    return MakeCpuDeviceLimits(ReadModelConfig(gguf, FindFamily(gguf)), kMaxTokens, kContext,
                               n_threads, /*max_rank=*/0);
  }

  // Logits after a prompt of 19 tokens, one of 5, and four single ones.
  std::vector<float> Logits() {
    std::vector<float> all;
    int32_t next = 5;
    int64_t position = 0;
    for (const size_t n : {19, 5, 1, 1, 1, 1}) {
      std::vector<int32_t> ids;
      while (ids.size() < n) {
        ids.push_back(next);
        next = static_cast<int32_t>((next * 31 + 7) % config_.vocab_size);
      }
      const auto logits = executor_->Run(executor_->OnlySequence(ids, position));
      position += static_cast<int64_t>(n);
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }
  Executor& executor() { return *executor_; }
  const ModelConfig& config() const { return config_; }

 private:
  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  ThreadTeam team_;
  std::unique_ptr<LoadedWeights> loaded_;
  std::unique_ptr<ModelPredictor> predictor_;
  LoadedPredictor predictors_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace thermocline
