// What changes from step to step, in device memory: a captured graph is replayed with the arguments
// it was recorded with, so its first node copies a GpuStepInputs from pinned host memory, and every
// kernel that must know reads it there. Prefill is not captured and says it in arguments.
#pragma once

#include <cstdint>
#include <span>

namespace thermocline {

// Tokens of a step that can be captured: one of decode, or a few to be verified at once.
inline constexpr int32_t kMaxStepTokens = 16;

struct GpuStepInputs {
  int32_t n_tokens;
  int32_t first_position;       // of the first token; the others follow
  int32_t ids[kMaxStepTokens];  // those behind n_tokens mean nothing
};

// For the host's copy. REQUIRES: 1 to kMaxStepTokens ids, the last position fits 31 bits.
void SetStepInputs(std::span<const int32_t> ids, int64_t first_position, GpuStepInputs* inputs);

// The tokens that a call is for.
struct GpuStepTokens {
  const GpuStepInputs* inputs = nullptr;  // in device memory, or null: the arguments say it
  int32_t n_tokens = 0;                   // how many; with inputs the most that a replay may have
  int32_t first_position = 0;             // with inputs unused
};

// Of a captured graph: as many as *inputs says when the graph runs. REQUIRES: at most
// kMaxStepTokens.
GpuStepTokens TokensFrom(const GpuStepInputs* inputs, int32_t max_tokens);
// Of a call that is not captured.
GpuStepTokens TokensAt(int64_t first_position, int64_t n_tokens);

}  // namespace thermocline
