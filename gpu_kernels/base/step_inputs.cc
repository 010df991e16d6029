#include "gpu_kernels/base/step_inputs.h"

#include <algorithm>
#include <limits>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kMaxPositions = std::numeric_limits<int32_t>::max();

}  // namespace

void SetStepInputs(std::span<const int32_t> ids, int64_t first_position, GpuStepInputs* inputs) {
  const auto n = static_cast<int64_t>(ids.size());
  CHECK(n >= 1 && n <= kMaxStepTokens);
  CHECK(first_position >= 0 && first_position <= kMaxPositions - n);
  inputs->n_tokens = static_cast<int32_t>(n);
  inputs->first_position = static_cast<int32_t>(first_position);
  std::copy(ids.begin(), ids.end(), inputs->ids);
}

GpuStepTokens TokensFrom(const GpuStepInputs* inputs, int32_t max_tokens) {
  CHECK(inputs != nullptr && max_tokens >= 1 && max_tokens <= kMaxStepTokens);
  return {inputs, max_tokens, 0};
}

GpuStepTokens TokensAt(int64_t first_position, int64_t n_tokens) {
  CHECK(n_tokens >= 0 && n_tokens <= kMaxPositions);
  CHECK(first_position >= 0 && first_position <= kMaxPositions - n_tokens);
  return {nullptr, static_cast<int32_t>(n_tokens), static_cast<int32_t>(first_position)};
}

}  // namespace thermocline
