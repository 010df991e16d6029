#include "profiler/synthetic/synth_tokens.h"

#include <algorithm>

#include "runtime/synth/synth_random.h"

namespace thermocline {
namespace {

constexpr int32_t kFirstToken = 3;  // behind <unk>, <s> and </s>

}  // namespace

int64_t TokensToMeasure(const ModelConfig& config) {
  const double layer =
      static_cast<double>(config.d_model) *
      static_cast<double>(3 * config.d_ff + 2 * config.q_dim() + 2 * config.kv_dim());
  const double per_token = 2 * layer * static_cast<double>(config.n_layers);
  return std::clamp(
      static_cast<int64_t>(4e12 / per_token) / kSynthWindowTokens * kSynthWindowTokens,
      kSynthWindowTokens, 8 * kSynthWindowTokens);
}

RandomTokens::RandomTokens(uint64_t seed, int64_t vocab_size)
    : counter_(seed), n_(static_cast<uint64_t>(vocab_size - kFirstToken)) {}

std::vector<int32_t> RandomTokens::Next(int64_t n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int32_t& id : ids) {
    counter_ += kCounterStep;
    id = kFirstToken + static_cast<int32_t>(MixBits(counter_) % n_);
  }
  return ids;
}

EngineOptions MeasuringEngine(const std::string& model_path, const SynthOptions& options,
                              int n_threads, const ProgressFn& progress) {
  EngineOptions out;
  out.model_path = model_path;
  out.sparse = "dense";
  out.fast_tier = FastTier::kCpu;
  out.n_threads = n_threads;
  out.context_tokens = std::min(kSynthWindowTokens, options.max_seq_len);
  out.batch_tokens = kSynthWindowTokens;
  out.progress = progress;
  return out;
}

}  // namespace thermocline
