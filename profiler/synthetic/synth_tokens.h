// What synthetic models are measured with: windows of random tokens, each a sequence of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/synth/synth.h"

namespace thermocline {

inline constexpr int64_t kSynthWindowTokens = 128;

// Returns 128 to 1024 tokens, so that a pass of all of them stays near 4e12 multiplications and
// additions.
int64_t TokensToMeasure(const ModelConfig& config);

class RandomTokens {
 public:
  RandomTokens(uint64_t seed, int64_t vocab_size);
  std::vector<int32_t> Next(int64_t n);

 private:
  uint64_t counter_;
  uint64_t n_;
};

// Returns options for a dense engine with room for one window. n_threads: 0 for one per core.
EngineOptions MeasuringEngine(const std::string& model_path, const SynthOptions& options,
                              int n_threads, const ProgressFn& progress);

}  // namespace thermocline
