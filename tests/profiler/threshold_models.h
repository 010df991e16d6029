// Small engines with thresholds.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "profiler/activations/activation_counter.h"
#include "profiler/thresholds/magnitude_observer.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/scoped_batch_cuts.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/placement/placement.h"

namespace thermocline {

inline std::vector<int32_t> RandomIds(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids;
  while (ids.size() < n) ids.push_back(3 + static_cast<int32_t>(random() % 250));
  return ids;
}

// Options of an engine that thresholds can be calibrated with.
inline EngineOptions CalibrationOptions(const std::string& model_path) {
  EngineOptions options;
  options.model_path = model_path;
  options.fast_tier = FastTier::kCpu;
  options.sparse = "dense";
  options.n_threads = 2;
  options.watch_attention = true;
  options.sets_cuts = true;
  options.all_logits = true;
  return options;
}

// Measures magnitudes over some texts of random tokens.
inline ModelThresholds MeasureThresholds(Engine& engine, const ChannelOrders& orders,
                                         int n_texts = 8) {
  MagnitudeObserver magnitudes(engine.model(), orders);
  const ScopedObserver watching(engine.executor(), &magnitudes);
  const auto n = static_cast<size_t>(std::min<int64_t>(engine.context_tokens(), 100));
  for (int i = 0; i < n_texts; ++i) {
    magnitudes.BeginText();
    engine.Reset();
    engine.Feed(RandomIds(n, static_cast<uint32_t>(i)));
  }
  engine.Reset();
  return magnitudes.Take(n_texts * static_cast<int64_t>(n));
}

// Writes thresholds as the part of a profile that a run reads.
inline void WriteThresholdFile(const std::string& path, const ModelThresholds& thresholds,
                               const std::string& fingerprint) {
  GgufWriter writer(path);
  writer.Set("general.architecture", GgufValue::string("thermocline-profile"));
  writer.Set("thermocline.model_fingerprint", GgufValue::string(fingerprint));
  DeclareThresholds(thresholds, &writer);
  WriteThresholds(thresholds, &writer);
  writer.Finish();
}

}  // namespace thermocline
