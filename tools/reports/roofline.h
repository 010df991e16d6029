// Where a decoded token's time goes, part by part, beside what the bytes of the part would take at
// the machine's read bandwidth: the measurement behind `bench --roofline`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/touched_bytes.h"
#include "tools/bench/compare_modes.h"

namespace thermocline {

struct RooflinePart {
  std::string name;
  double bytes = 0;  // read per token: weights, and keys and values for attention
  double ms = 0;     // per token, median over the prompts
};

struct Roofline {
  SparseMode mode = SparseMode::kDense;
  double context_tokens = 0;  // in the cache, on average
  double bandwidth = 0;       // bytes/s, median of what was measured before each prompt
  std::vector<RooflinePart> parts;
  RooflinePart total;
};

// Decodes after each prompt with the clock on, in one mode. The bandwidth is measured before every
// prompt, since shared machines change from second to second.
Roofline MeasureRoofline(Engine& engine, SparseMode mode,
                         const std::vector<std::vector<int32_t>>& prompts,
                         const ComparisonOptions& options);

std::string RooflineTable(const Roofline& roofline);
nlohmann::ordered_json RooflineJson(const Roofline& roofline);

}  // namespace thermocline
