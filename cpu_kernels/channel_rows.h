// How accumulate_channels goes over a list: 8 rows at a time, in strips of 128 columns. What a
// strip adds is the instruction set's business.
//
// The products h_i d_i of a row's factor and its block's scale are rounded to integers, by one
// scale for the 8 rows and a block of 32 columns. Rows are then multiplied and added in integers,
// and floats are made once per 8 rows: turning weights into floats is what would limit. (16 rows
// take fewer instructions, and as streams of memory are read up to a quarter more slowly.)
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_plan.h"
#include "runtime/core/dtype.h"

namespace thermocline {

inline constexpr int kChannelRows = 8;        // that are added in integers
inline constexpr int64_t kChannelCols = 128;  // a strip
inline constexpr int64_t kChannelBlocks = 4;  // of a strip
// How far ahead each row is prefetched, in the same row or in those that follow in the list, where
// strips are taken in their order and where they are taken from both ends.
inline constexpr int64_t kAheadBytes = 1536;
inline constexpr int64_t kBothEndsAheadBytes = 1152;
// Rows up to a page, of which a list leaves out a quarter or more, are taken from both ends.
inline constexpr int64_t kBothEndsRowBytes = 4096;

// In which order the strips of 8 rows are taken. It changes no bit.
enum class StripOrder : uint8_t {
  kUpwards,
  // The first, the last, the second, the last but one ... Processors take this for no stream, and
  // fetch nothing behind the rows' ends on their own, which is lost where the next row is skipped.
  kBothEnds,
};

// Strip says how 8 rows are added to 128 columns: kType, kHint, where to prefetch to, a class
// Factors, factors(rows, offset, h) and add(factors, rows, offset, y), where h: (kChannelRows) f32,
// 64-byte aligned, and the strip of row r lies at rows[r] + offset. The factors of a strip are made
// before the one ahead of it is added: they are one long chain, from the scales over their largest
// to a division, and processors do not look far enough ahead to begin it while products are under
// way.
template <class Strip, auto kHint, StripOrder kOrder>
class ChannelRows {
 public:
  static constexpr int64_t kStripBytes = kChannelBlocks * kTypeBlockBytes<Strip::kType>;

  explicit ChannelRows(const AccumulateArgs& args)
      : args_(args),
        n_strips_((args.col_end - args.col_begin) / kChannelCols),
        plan_(n_strips_, kStripBytes,
              kOrder == StripOrder::kBothEnds ? kBothEndsAheadBytes : kAheadBytes) {}

  // Adds whole strips. Returns the first column that is left.
  int64_t run() const {
    if (n_strips_ > 0 && args_.n_rows > 0) prefetch_first();
    for (int64_t i = 0; n_strips_ > 0 && i < args_.n_rows; i += kChannelRows) {
      const int64_t left = args_.n_rows - i;
      add_group(i, left < kChannelRows ? static_cast<int>(left) : kChannelRows);
    }
    return args_.col_begin + n_strips_ * kChannelCols;
  }

 private:
  // The strip that is taken at step t.
  [[gnu::always_inline]] int64_t strip_at(int64_t t) const {
    if constexpr (kOrder == StripOrder::kUpwards) return t;
    return t % 2 == 0 ? t / 2 : n_strips_ - 1 - t / 2;
  }

  const std::byte* row_at(int64_t i) const {
    const int64_t at = i < args_.n_rows ? i : args_.n_rows - 1;
    const int64_t row = args_.rows != nullptr ? args_.rows[at] : at;
    return args_.w + row * args_.row_stride_bytes +
           args_.col_begin / kQuantBlock * kTypeBlockBytes<Strip::kType>;
  }

  // What no row before them has prefetched.
  [[gnu::always_inline]] inline void prefetch_first() const {
    const std::byte* rows[kChannelRows];
    for (int r = 0; r < kChannelRows; ++r) rows[r] = row_at(r);
    const int64_t steps = plan_.groups > 0 ? n_strips_ : plan_.steps;
    for (int64_t t = 0; t < steps; ++t) prefetch(rows, strip_at(t));
  }

  // Rows behind the last of the list are its last, times 0.
  void add_group(int64_t first, int n) const {
    const std::byte* rows[kChannelRows];
    const std::byte* ahead[kChannelRows];
    const std::byte* after[kChannelRows];
    alignas(64) float h[kChannelRows];
    for (int r = 0; r < kChannelRows; ++r) {
      h[r] = r < n ? args_.h[first + r] : 0;
      rows[r] = row_at(first + (r < n ? r : n - 1));
      ahead[r] = row_at(first + r + plan_.groups * kChannelRows);
      after[r] = row_at(first + r + (plan_.groups + 1) * kChannelRows);
    }
    float* y = args_.y + args_.col_begin;
    typename Strip::Factors factors = Strip::factors(rows, 0, h);
    const auto take = [&](int64_t t) __attribute__((always_inline)) {
      // Of the last strip they are made once more, for nobody.
      const int64_t behind = strip_at(t + 1 < n_strips_ ? t + 1 : t);
      const typename Strip::Factors next = Strip::factors(rows, behind * kStripBytes, h);
      const int64_t s = strip_at(t);
      Strip::add(factors, rows, s * kStripBytes, y + s * kChannelCols);
      factors = next;
    };
    int64_t t = 0;
    for (; t < n_strips_ - plan_.steps; ++t) {
      prefetch(ahead, strip_at(t + plan_.steps));
      take(t);
    }
    for (int64_t step = 0; t < n_strips_; ++t, ++step) {
      prefetch(after, strip_at(step));
      take(t);
    }
  }

  [[gnu::always_inline]] static inline void prefetch(const std::byte* const* from, int64_t strip) {
    for (int r = 0; r < kChannelRows; ++r) {
      for (int64_t line = 0; line < kStripBytes; line += kCacheLine) {
        _mm_prefetch(reinterpret_cast<const char*>(from[r] + strip * kStripBytes + line), kHint);
      }
    }
  }

  const AccumulateArgs& args_;
  int64_t n_strips_;
  PrefetchPlan plan_;
};

// Whether the rows of a list are short, and few enough for most to lie apart.
template <class Strip>
bool lies_apart(const AccumulateArgs& args) {
  if (args.rows == nullptr || args.n_rows == 0) return false;
  const int64_t row_bytes =
      (args.col_end - args.col_begin) / kQuantBlock * kTypeBlockBytes<Strip::kType>;
  const int64_t span = args.rows[args.n_rows - 1] - args.rows[0] + 1;
  return row_bytes <= kBothEndsRowBytes && 4 * args.n_rows <= 3 * span;
}

// Adds whole strips. Returns the first column that is left.
template <class Strip>
int64_t add_channel_rows(const AccumulateArgs& args) {
  constexpr auto kUpwards = StripOrder::kUpwards;
  if (!prefetches_rows_near()) return ChannelRows<Strip, Strip::kHint, kUpwards>(args).run();
  if (lies_apart<Strip>(args)) {
    return ChannelRows<Strip, _MM_HINT_T0, StripOrder::kBothEnds>(args).run();
  }
  return ChannelRows<Strip, _MM_HINT_T0, kUpwards>(args).run();
}

}  // namespace thermocline
