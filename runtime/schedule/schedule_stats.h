// What a scheduler did since it was made, and how it stands.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/pass/ffn_counts.h"

namespace thermocline {

struct PageCounts {
  int64_t n_pages = 0;
  int64_t n_free = 0;
  int64_t n_kept = 0;  // of texts that ended: free for whoever needs them
};

struct ScheduleStats {
  // Now.
  int64_t n_running = 0;
  int64_t n_waiting = 0;
  std::vector<PageCounts> pages;    // by page class
  std::vector<uint64_t> used_bytes;  // by tier, from the fastest on (Engine::UsedBytes)
  // Since the scheduler was made.
  int64_t n_requests = 0;
  int64_t n_ended = 0;
  int64_t n_cancelled = 0;
  int64_t n_failed = 0;
  int64_t n_preempted = 0;
  int64_t n_shifted = 0;
  int64_t n_passes = 0;
  int64_t n_busy_slots = 0;  // summed over passes
  int64_t longest_text = 0;  // in tokens
  int64_t prompt_tokens = 0;     // fed
  int64_t cached_tokens = 0;     // of prompts, not fed
  int64_t prefix_pages_hit = 0;  // pages of the prefix cache that prompts began with
  int64_t prefix_pages_missed = 0;
  int64_t generated_tokens = 0;
  int64_t decode_passes_tokens = 0;  // of them, those that took a row of a pass of their own
  double prompt_ms = 0;
  double decode_ms = 0;
  FfnCounts neurons;  // which share of them was computed (runtime/pass/ffn_counts.h)
};

}  // namespace thermocline
