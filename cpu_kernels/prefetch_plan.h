// How far ahead the kernels prefetch, in terms of the steps in which they walk a group of rows.
#pragma once

#include <cstdint>

namespace thermocline {

inline constexpr int kCacheLine = 64;
// How far ahead of its loads each row is prefetched. With eight rows 12 kB are on their way, a
// quarter of L1; measured among 0.5 to 32 kB, with one to ten rows in a group, on rows of 0.6 to 44
// kB.
inline constexpr int64_t kPrefetchBytes = 1536;

// What is wanted `kPrefetchBytes` after step t lies in step t + steps of the rows `groups` groups
// further on, or, past their end, in step t + steps - n_steps of the group after those.
struct PrefetchPlan {
  int64_t groups = 0;
  int64_t steps = 0;

  [[gnu::always_inline]] PrefetchPlan(int64_t n_steps, int64_t step_bytes) {
    if (n_steps == 0) return;
    groups = kPrefetchBytes / step_bytes / n_steps;
    steps = kPrefetchBytes / step_bytes % n_steps;
  }
};

}  // namespace thermocline
