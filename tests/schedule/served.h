// A small model, a scheduler over it, and requests that collect what they are told.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/schedule/scheduler.h"
#include "tests/schedule/collector.h"

namespace thermocline {

inline constexpr int32_t kEndToken = 2;

inline EngineOptions SmallModel(int64_t n_sequences, int64_t context_tokens = 128) {
  EngineOptions options;
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
  options.sparse = "exact";
  options.n_threads = 2;
  options.n_sequences = n_sequences;
  options.context_tokens = context_tokens;
  options.batch_tokens = 64;
  return options;
}

inline std::vector<int32_t> PromptOf(int i, size_t length) {
  std::vector<int32_t> ids;
  while (ids.size() < length) {
    ids.push_back(3 + (i * 37 + static_cast<int>(ids.size()) * (17 + i)) % 280);
  }
  return ids;
}

// Never ends the text by itself.
inline Request GreedyRequest(std::vector<int32_t> prompt, int64_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampler.temperature = 0;
  request.sampler.logit_bias = {{kEndToken, -std::numeric_limits<float>::infinity()}};
  request.max_tokens = max_tokens;
  return request;
}

class Served {
 public:
  Served(const EngineOptions& engine_options, ScheduleOptions options)
      : engine(engine_options), scheduler(engine, options) {}

  std::shared_ptr<Collector> Submit(Request request) {
    auto collector = std::make_shared<Collector>();
    scheduler.Submit(next_id++, std::move(request), collector);
    return collector;
  }
  void RunAll() {
    while (scheduler.Step()) {
    }
  }
  Collector::Text Run(Request request) {
    const auto collector = Submit(std::move(request));
    RunAll();
    return collector->texts.at(0);
  }

  Engine engine;
  Scheduler scheduler;
  RequestId next_id = 1;
};

}  // namespace thermocline
