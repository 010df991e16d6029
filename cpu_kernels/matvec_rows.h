// The loop that every vectorised matrix-vector kernel shares: groups of rows (a load of x serves
// them all, and each is a stream of its own to the prefetchers), then single rows for the rest.
// What each row's stream needs next is prefetched, be it further on in the same rows or in the
// groups that follow in the list.
//
// A kernel is a class with
//   Reg                          the vector register
//   kRowGroup                    rows of a group
//   kStepBytes                   what one step takes from each row
//   Kernel(const MatvecArgs&)
//   full_steps()                 how many steps to take; tail does what is left of the row
//   step<kRows>(rows, t, sums)   adds step t's products of each row to sums[row][0..1]
//   tail<kRows>(rows, sums)      the same for what lies after the full steps, if anything
//   total(sum0, sum1)            the row's result
// It must treat every row as if it were alone, so that a sum does not depend on the grouping.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_plan.h"

namespace thermocline {

template <class Kernel>
class MatvecLoop {
 public:
  explicit MatvecLoop(const MatvecArgs& args)
      : args_(args),
        kernel_(args),
        n_steps_(kernel_.full_steps()),
        plan_(n_steps_, Kernel::kStepBytes) {}

  void run() const {
    int64_t i = args_.begin;
    for (; i + Kernel::kRowGroup <= args_.end; i += Kernel::kRowGroup) {
      args_.rows != nullptr ? listed_group<Kernel::kRowGroup>(i) : dense_group(i);
    }
    for (; i < args_.end; ++i) listed_group<1>(i);
  }

 private:
  // Where prefetches go: at[r] + offset, further on by a step each.
  struct Ahead {
    const std::byte* const* at;
    int64_t offset;
  };

  const std::byte* row_at(int64_t i) const {
    const int64_t at = i < args_.end ? i : args_.end - 1;
    const int64_t row = args_.rows != nullptr ? args_.rows[at] : at;
    return args_.w + row * args_.row_stride_bytes;
  }

  // Neighbouring rows: what comes next lies at the same distance from each. That spares eight
  // pointers, which is what the general registers hold. (Past the end of w nothing happens:
  // prefetches do not fault.)
  void dense_group(int64_t i) const {
    const std::byte* rows[Kernel::kRowGroup];
    for (int r = 0; r < Kernel::kRowGroup; ++r) rows[r] = row_at(i + r);
    const int64_t group_bytes = Kernel::kRowGroup * args_.row_stride_bytes;
    const int64_t ahead = plan_.groups * group_bytes;
    dot_group<Kernel::kRowGroup>(rows, {rows, ahead}, {rows, ahead + group_bytes}, args_.out + i);
  }

  template <int kRows>
  void listed_group(int64_t i) const {
    const std::byte* rows[kRows];
    const std::byte* ahead[kRows];
    const std::byte* after[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = row_at(i + r);
      ahead[r] = row_at(i + r + plan_.groups * kRows);
      after[r] = row_at(i + r + (plan_.groups + 1) * kRows);
    }
    dot_group<kRows>(rows, {ahead, 0}, {after, 0}, args_.out + i);
  }

  // Inlined by force: GCC takes a function that only prefetches for one without effect and drops
  // the call.
  template <int kRows>
  [[gnu::always_inline]] static inline void prefetch(const Ahead& ahead, int64_t step) {
    const int64_t offset = ahead.offset + step * Kernel::kStepBytes;
    for (int r = 0; r < kRows; ++r) {
      for (int line = 0; line < Kernel::kStepBytes; line += kCacheLine) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead.at[r] + offset + line), _MM_HINT_T0);
      }
    }
  }

  // `ahead` holds for the first steps, whose bytes to prefetch lie in rows of one group, `after`
  // for the rest, whose bytes lie in the group that follows it.
  template <int kRows>
  [[gnu::always_inline]] inline void dot_group(const std::byte* const* rows, const Ahead& ahead,
                                               const Ahead& after, float* out) const {
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
    kernel_.template tail<kRows>(rows, sums);
    // Unrolled early, or the compiler keeps the sums of eight rows in memory.
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) out[r] = kernel_.total(sums[r][0], sums[r][1]);
  }

  const MatvecArgs& args_;
  const Kernel kernel_;
  int64_t n_steps_;
  PrefetchPlan plan_;
};

template <class Kernel>
void matvec_rows(const MatvecArgs& args) {
  MatvecLoop<Kernel>(args).run();
}

}  // namespace thermocline
