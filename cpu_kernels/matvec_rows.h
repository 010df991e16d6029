// The loop that every vectorised matrix-vector kernel shares. Neighbouring rows are read one after
// the other, in the order of memory. Rows that lie apart are read in groups: a load of x serves
// them all, and each is a stream of its own to the prefetchers. What each stream needs next is
// prefetched, be it further on in the same rows or in those that follow in the list.
//
// A kernel is a class with
//   Reg                          the vector register
//   kRowGroup                    rows of a group
//   kStepBytes                   what one step takes from each row
//   Kernel(const MatvecArgs&)
//   full_steps()                 how many steps to take; tail does what is left of the row
//   step<kRows>(rows, t, sums)   adds step t's products of each row to sums[row][0..1]
//   kManySteps, many_steps       if there: the same for so many steps at once, to the same bits,
//                                for up to four rows
//   tail<kRows>(rows, sums)      the same for what lies after the full steps, if anything
//   total(sum0, sum1)            the row's result
// It must treat every row as if it were alone, so that a sum does not depend on the grouping.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_lines.h"
#include "cpu_kernels/prefetch_plan.h"

namespace thermocline {

template <class Kernel>
constexpr int kManySteps = 1;
template <class Kernel>
requires requires { Kernel::kManySteps; }
constexpr int kManySteps<Kernel> = Kernel::kManySteps;

template <class Kernel>
class MatvecLoop {
 public:
  explicit MatvecLoop(const MatvecArgs& args)
      : args_(args),
        kernel_(args),
        n_steps_(kernel_.full_steps()),
        plan_(n_steps_, Kernel::kStepBytes, kScatteredAheadBytes) {}

  void run() const {
    const int64_t stride = args_.row_stride_bytes;
    if (stride >= kShortRowBytes && 4 * stride <= four_rows_bytes()) return run_stretches<4>();
    if (2 * stride <= kTwoRowsBytes) return run_stretches<2>();
    run_stretches<1>();
  }

 private:
  static constexpr int kGroup = Kernel::kRowGroup;

  const std::byte* row_at(int64_t i) const {
    const int64_t at = i < args_.end ? i : args_.end - 1;
    return args_.w + args_.rows[at] * args_.row_stride_bytes;
  }

  template <int kRows>
  void run_stretches() const {
    // How many rows further on lies what is prefetched: whole stretches. A single row may come with
    // a stride of 0.
    const int64_t stride = args_.row_stride_bytes > 0 ? args_.row_stride_bytes : 1;
    const int64_t stretch_bytes = kRows * stride;
    const int64_t ahead = kRows * (1 + (kStreamAheadBytes - 1) / stretch_bytes);
    if (args_.rows == nullptr) return run_dense<kRows>(ahead);
    run_list<kRows>(ahead, std::max<int64_t>(2, kRunBytes / stride));
  }

  // Prefetches also go past the last row: another part of the matrix follows as a rule, and past
  // the end of w nothing happens, since prefetches do not fault.
  template <int kRows>
  void run_dense(int64_t ahead) const {
    int64_t i = args_.begin;
    const auto at = [&](int64_t row) { return args_.w + row * args_.row_stride_bytes; };
    for (; i + kRows <= args_.end; i += kRows) stretch<kRows>(at(i), at(i + ahead), i);
    for (; i < args_.end; ++i) stretch<1>(at(i), at(i + ahead), i);
  }

  // run_rows: how many neighbours in the list are worth reading as a stretch. Each run is counted
  // once.
  template <int kRows>
  void run_list(int64_t ahead, int64_t run_rows) const {
    int64_t i = args_.begin;
    int64_t short_end = i;  // where the run that is being read as rows that lie apart ends
    while (i < args_.end) {
      if (i >= short_end) {
        const int64_t end = i + run_length(i);
        if (end - i >= run_rows) {
          for (; i + kRows <= end; i += kRows) stretch<kRows>(row_at(i), row_at(i + ahead), i);
          for (; i < end; ++i) stretch<1>(row_at(i), row_at(i + ahead), i);
          continue;
        }
        short_end = end;
      }
      if (i + kGroup <= args_.end) {
        scattered<kGroup>(i);
        i += kGroup;
      } else {
        scattered<1>(i++);
      }
    }
  }

  // How many entries of the list from i on are neighbours.
  int64_t run_length(int64_t i) const {
    const int64_t most = args_.end - i;
    int64_t n = 1;
    while (n < most && args_.rows[i + n] == args_.rows[i] + n) ++n;
    return n;
  }

  // Reads neighbouring rows from `first` on, while what lies from `next` on is prefetched in the
  // order of memory. A long row is a stretch of its own and is prefetched a part of itself ahead:
  // the whole of the next would push x out of L1.
  template <int kRows>
  void stretch(const std::byte* first, const std::byte* next, int64_t i) const {
    const std::byte* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = first + r * args_.row_stride_bytes;
    typename Kernel::Reg sums[kRows][2] = {};
    int64_t t = 0;
    if constexpr (kRows == 1) {
      constexpr int64_t kAheadSteps = kStreamAheadBytes / Kernel::kStepBytes;
      take_until<kRows>(n_steps_ - kAheadSteps, t, rows, first + kAheadSteps * Kernel::kStepBytes,
                        sums);
    }
    take_until<kRows>(n_steps_, t, rows, next, sums);
    finish<kRows>(rows, sums, args_.out + i);
  }

  // Takes steps t to end, while what lies from `ahead` on is prefetched at the same pace.
  template <int kRows>
  [[gnu::always_inline]] inline void take_until(int64_t end, int64_t& t,
                                                const std::byte* const* rows,
                                                const std::byte* ahead,
                                                typename Kernel::Reg (*sums)[2]) const {
    constexpr int kMany = kManySteps<Kernel>;
    if constexpr (kMany > 1) {
      for (; t <= end - kMany; t += kMany) {
        prefetch_lines<kMany * kRows * Kernel::kStepBytes>(ahead, near_);
        ahead += kMany * kRows * Kernel::kStepBytes;
        kernel_.template many_steps<kRows>(rows, t, sums);
      }
    }
    for (; t < end; ++t) {
      prefetch_lines<kRows * Kernel::kStepBytes>(ahead, near_);
      ahead += kRows * Kernel::kStepBytes;
      kernel_.template step<kRows>(rows, t, sums);
    }
  }

  // Reads rows that lie apart. `ahead` holds for the first steps, whose bytes to prefetch lie in
  // rows of one group, `after` for the rest, whose bytes lie in the group that follows it.
  template <int kRows>
  void scattered(int64_t i) const {
    const std::byte* rows[kRows];
    const std::byte* ahead[kRows];
    const std::byte* after[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = row_at(i + r);
      ahead[r] = row_at(i + r + plan_.groups * kRows);
      after[r] = row_at(i + r + (plan_.groups + 1) * kRows);
    }
    typename Kernel::Reg sums[kRows][2] = {};
    int64_t t = 0;
    for (; t < n_steps_ - plan_.steps; ++t) {
      prefetch<kRows>(ahead, t + plan_.steps);
      kernel_.template step<kRows>(rows, t, sums);
    }
    for (int64_t step = 0; t < n_steps_; ++t, ++step) {
      prefetch<kRows>(after, step);
      kernel_.template step<kRows>(rows, t, sums);
    }
    finish<kRows>(rows, sums, args_.out + i);
  }

  template <int kRows>
  [[gnu::always_inline]] inline void prefetch(const std::byte* const* ahead, int64_t step) const {
    for (int r = 0; r < kRows; ++r) {
      prefetch_lines<Kernel::kStepBytes>(ahead[r] + step * Kernel::kStepBytes, near_);
    }
  }

  template <int kRows>
  [[gnu::always_inline]] inline void finish(const std::byte* const* rows,
                                            typename Kernel::Reg (*sums)[2], float* out) const {
    kernel_.template tail<kRows>(rows, sums);
    // The loop is unrolled early, or the compiler keeps the sums of eight rows in memory.
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) out[r] = kernel_.total(sums[r][0], sums[r][1]);
  }

  const MatvecArgs& args_;
  const Kernel kernel_;
  int64_t n_steps_;
  PrefetchPlan plan_;
  const bool near_ = prefetches_near();
};

template <class Kernel>
void matvec_rows(const MatvecArgs& args) {
  MatvecLoop<Kernel>(args).run();
}

}  // namespace thermocline
