#include "gpu_kernels/base/pass_inputs.h"

#include <algorithm>
#include <limits>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kMaxPositions = std::numeric_limits<int32_t>::max();

}  // namespace

void SetPassInputs(std::span<const int32_t> ids, int64_t first_position, GpuPassInputs* inputs) {
  const auto n = static_cast<int64_t>(ids.size());
  CHECK(n >= 1 && n <= kMaxPassTokens);
  CHECK(first_position >= 0 && first_position <= kMaxPositions - n);
  inputs->n_tokens = static_cast<int32_t>(n);
  inputs->first_position = static_cast<int32_t>(first_position);
  std::copy(ids.begin(), ids.end(), inputs->ids);
}

GpuPassTokens TokensFrom(const GpuPassInputs* inputs, int32_t max_tokens) {
  CHECK(inputs != nullptr && max_tokens >= 1 && max_tokens <= kMaxPassTokens);
  return {inputs, max_tokens, 0};
}

GpuPassTokens TokensAt(int64_t first_position, int64_t n_tokens) {
  CHECK(n_tokens >= 0 && n_tokens <= kMaxPositions);
  CHECK(first_position >= 0 && first_position <= kMaxPositions - n_tokens);
  return {nullptr, static_cast<int32_t>(n_tokens), static_cast<int32_t>(first_position)};
}

}  // namespace thermocline
