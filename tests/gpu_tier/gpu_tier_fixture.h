// Runs of one model on the CPU and with a GPU as the fast tier.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/placement/placements.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

struct GpuRun {
  std::string model;
  std::string sparse = "auto";
  FastTier tier = FastTier::kGpu;
  double hot_share = -1;  // below 0: no placement, one tier
  int n_threads = 2;
  std::string predictor = {};
  DType cache_type = DType::kF16;
  StreamCold stream = StreamCold::kOff;
  uint64_t piece_bytes = kStreamPieceBytes;
  bool attends_away = false;  // with a placement, the last layer on the slow tier
};

class GpuTier : public GpuTest {
 protected:
  static std::string Golden(const std::string& name) {
    return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + name + ".gguf";
  }
  static std::string DemoFile(const std::string& name) {
    return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/" + name;
  }

  EngineOptions Options(const GpuRun& run) {
    EngineOptions options;
    options.model_path = run.model;
    options.sparse = run.sparse;
    options.fast_tier = run.tier;
    options.n_threads = run.n_threads;
    options.predictor = run.predictor;
    options.cache_type = run.cache_type;
    options.gpu_stream = run.stream;
    options.stream_piece_bytes = run.piece_bytes;
    options.context_tokens = 64;
    options.batch_tokens = 32;
    options.always_per_neuron = true;
    if (run.hot_share < 0) return options;
    const OpenedModel opened(options);
    options.placement_path = dir_.file("placement");
    Placement placement = ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                            opened.config().d_ff, run.hot_share);
    if (run.attends_away) placement.layers.back().attention = kDram;
    WritePlacement(options.placement_path, placement);
    return options;
  }
  std::unique_ptr<Engine> Open(const GpuRun& run) { return std::make_unique<Engine>(Options(run)); }

  // Returns the logits after a prompt of 19 tokens (a batch), after one of 5 (captured), and after
  // each of some single tokens.
  static std::vector<float> Logits(Engine& engine, int n_single = 4) {
    std::vector<float> all;
    int32_t next = 5;
    const auto feed = [&](size_t n) {
      std::vector<int32_t> ids;
      while (ids.size() < n) {
        ids.push_back(next);
        next = static_cast<int32_t>((next * 31 + 7) % engine.config().vocab_size);
      }
      const auto logits = engine.Feed(ids);
      all.insert(all.end(), logits.begin(), logits.end());
    };
    feed(19);
    feed(5);
    for (int i = 0; i < n_single; ++i) feed(1);
    return all;
  }
  std::vector<float> Logits(const GpuRun& run) { return Logits(*Open(run)); }

  static double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double most = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
      if (!(difference <= most)) most = difference;  // NaN stays visible
    }
    return most;
  }

  TempDir dir_;
};

}  // namespace thermocline
