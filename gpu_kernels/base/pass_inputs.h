// What changes from pass to pass, in device memory: a captured graph is replayed with the arguments
// it was recorded with, so its first node copies a GpuPassInputs from pinned host memory, and every
// kernel that must know reads it there. Prefill is not captured and says it in arguments.
#pragma once

#include <cstdint>
#include <span>

namespace thermocline {

// Tokens of a pass that can be captured: one of decode, or a few to be verified at once.
inline constexpr int32_t kMaxPassTokens = 16;

struct GpuPassInputs {
  int32_t n_tokens;
  int32_t first_position;       // of the first token; the others follow
  int32_t ids[kMaxPassTokens];  // those behind n_tokens mean nothing
};

// For the host's copy. REQUIRES: 1 to kMaxPassTokens ids, the last position fits 31 bits.
void SetPassInputs(std::span<const int32_t> ids, int64_t first_position, GpuPassInputs* inputs);

// The tokens that a call is for.
struct GpuPassTokens {
  const GpuPassInputs* inputs = nullptr;  // in device memory, or null: the arguments say it
  int32_t n_tokens = 0;                   // how many; with inputs the most that a replay may have
  int32_t first_position = 0;             // with inputs unused
};

// Of a captured graph: as many as *inputs says when the graph runs. REQUIRES: at most
// kMaxPassTokens.
GpuPassTokens TokensFrom(const GpuPassInputs* inputs, int32_t max_tokens);
// Of a call that is not captured.
GpuPassTokens TokensAt(int64_t first_position, int64_t n_tokens);

}  // namespace thermocline
