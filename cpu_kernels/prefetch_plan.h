// How far ahead the kernels prefetch, in terms of the steps in which they walk a group of rows.
#pragma once

#include <cstdint>

namespace thermocline {

inline constexpr int kCacheLine = 64;
// How far behind the stretch at hand neighbouring rows, which are read as stretches of memory some
// rows at once, are prefetched in the order of memory; at least as far as the next whole stretch. 2
// to 24 kB were measured, with one to eight rows at once, on rows of 0.6 to 23 kB: this reads as
// fast as a plain sum of words does. Eight rows at once with a stream each reach three quarters of
// that.
inline constexpr int64_t kStreamAheadBytes = 6144;
// Four rows make a stretch where they leave room in L1 for the next one. Longer rows go two at a
// time, since one loads x more often than fast memory allows, even where they push each other out
// to L2.
inline constexpr int64_t kFourRowsBytes = 12288;
inline constexpr int64_t kTwoRowsBytes = 24576;
// What four rows may take on this processor: kFourRowsBytes, or 0 on AMD's. Zen 4 decodes Q8_0 rows
// of 2176 bytes 1.3 times as fast two at a time with AVX-512, and no slower with AVX2. (Defined in
// tables.cc, which is compiled for every processor.)
int64_t four_rows_bytes();
// Shorter rows go two at a time, too: Intel's prefetchers follow few streams within 4 kB. Rows of
// 1152 bytes are then read 1.2 times as fast there, and in cache a twentieth slower.
inline constexpr int64_t kShortRowBytes = 2048;
// A stretch among the rows of a list costs some time to start, so shorter runs of neighbours are
// read as rows that lie apart. Measured on runs of 4 to 32 rows of 2.3 to 8 kB: that reads one of
// 14 kB up to 1.7 times as fast, one of 49 kB a tenth slower.
inline constexpr int64_t kRunBytes = 32768;
// How far ahead each row is prefetched where rows lie apart and are read eight at once, so that
// many are on their way. Together that is 12 kB, a quarter of L1; 0.5 to 32 kB were measured.
inline constexpr int64_t kScatteredAheadBytes = 1536;

// Whether rows of a list are best prefetched into the first cache, on this processor: on AMD's from
// Zen 5 on. Those before have more lines on their way to the second. (In tables.cc.)
bool prefetches_rows_near();

// Whether the rows that follow are best prefetched into the first cache, on this processor: not on
// AMD's before Zen 5, whose first cache has 32 kB. Zen 4 reads neighbouring rows of 11008 columns
// 1.1 to 1.5 times as fast where it is the second, and rows that lie apart up to 1.7 times. (In
// tables.cc.)
bool prefetches_near();

// Products with several tokens: the bytes of the tokens' vectors that stay in the first cache while
// rows go by (of 32 kB on older processors; measured on 48 kB: more costs rows of 11008 columns up
// to a fifth), those of the rows of a group, and how far ahead these are prefetched.
inline constexpr int64_t kVectorsBytes = 28672;
inline constexpr int64_t kManyGroupBytes = 65536;
inline constexpr int64_t kManyAheadBytes = 8192;

// What is wanted `ahead_bytes` after step t lies in step t + steps of the rows `groups` groups
// further on, or, past their end, in step t + steps - n_steps of the group after those.
struct PrefetchPlan {
  int64_t groups = 0;
  int64_t steps = 0;

  [[gnu::always_inline]] PrefetchPlan(int64_t n_steps, int64_t step_bytes, int64_t ahead_bytes) {
    if (n_steps == 0) return;
    groups = ahead_bytes / step_bytes / n_steps;
    steps = ahead_bytes / step_bytes % n_steps;
  }
};

}  // namespace thermocline
