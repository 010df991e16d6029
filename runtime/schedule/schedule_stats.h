// What a scheduler did since it was made, and how it stands.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/pass/executor.h"
#include "runtime/pass/ffn_counts.h"
#include "runtime/schedule/host_pages.h"
#include "runtime/speculate/speculator.h"

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
  std::vector<PageCounts> pages;     // by page class
  std::vector<uint64_t> used_bytes;  // by tier, from the fastest on (Engine::UsedBytes)
  // Since the scheduler was made.
  int64_t n_requests = 0;
  int64_t n_ended = 0;
  int64_t n_cancelled = 0;
  int64_t n_failed = 0;
  int64_t n_preempted = 0;
  int64_t n_shifted = 0;
  int64_t n_passes = 0;
  int64_t n_busy_slots = 0;         // summed over passes
  int64_t longest_text = 0;         // in tokens
  int64_t prompt_tokens = 0;        // fed, those of texts that were fed again included
  int64_t cached_tokens = 0;        // of prompts, not fed
  int64_t prefix_pages_hit = 0;     // pages of the prefix cache that prompts began with
  int64_t prefix_pages_missed = 0;  // and whole pages of prompts that were fed
  int64_t generated_tokens = 0;     // those that ended a text included
  int64_t written_tokens = 0;       // all of them but each text's first
  int64_t n_all_fetched = 0;        // times a mask forbade too many of the best logits
  double reading_ms = 0;            // of passes that read something of a prompt
  double writing_ms = 0;            // of the others
  SpeculateStats speculation;       // where there are drafts
  int64_t tokens_again = 0;         // that texts which were sent away have yet to be fed again
  HostPageCounts host_pages;        // copies of pages in the host's memory
  Executor::KvBytes kv_bytes;       // keys and values that attention read
  FfnCounts neurons;                // which share of them was computed (runtime/pass/ffn_counts.h)
};

}  // namespace thermocline
