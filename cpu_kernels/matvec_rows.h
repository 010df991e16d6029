// The loop that every vectorised matrix-vector kernel shares: groups of four rows (a load of x
// serves four rows, and four streams of weights are in flight), then single rows for the rest, with
// the bytes that come next prefetched, be it further on in the same rows or in the rows that follow
// in the list.
//
// A kernel is a class with
//   Reg                      the vector register
//   kStepCols, kStepBytes    what one step takes from each row
//   Kernel(const MatvecArgs&)
//   full_steps()                 how many steps to take; tail does what is left of the row
//   step<kRows>(rows, t, sums)   adds step t's products of each row to sums[row][0..1]
//   tail<kRows>(rows, sums)      the same for the columns from kStepCols * full_steps() on
//   total(sum0, sum1)            the row's result
// It must treat every row as if it were alone, so that a sum does not depend on the grouping.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu_kernels/kernel_args.h"

namespace thermocline {

inline constexpr int kRowGroup = 4;
inline constexpr int kCacheLine = 64;
// How far ahead of the loads each row is prefetched: with four rows 8 kB, about what one core
// receives during one DRAM latency.
inline constexpr int64_t kPrefetchBytes = 2048;

template <class Kernel, int kRows>
void prefetch_step(const std::byte* const* from, int64_t offset) {
  for (int r = 0; r < kRows; ++r) {
    for (int line = 0; line < Kernel::kStepBytes; line += kCacheLine) {
      _mm_prefetch(reinterpret_cast<const char*>(from[r] + offset + line), _MM_HINT_T0);
    }
  }
}

template <class Kernel, int kRows>
void dot_rows(const Kernel& kernel, const std::byte* const* rows, const std::byte* const* next,
              float* out) {
  constexpr int64_t kBytes = Kernel::kStepBytes;
  const int64_t n_steps = kernel.full_steps();
  const int64_t ahead = kPrefetchBytes / kBytes < n_steps ? kPrefetchBytes / kBytes : n_steps;
  typename Kernel::Reg sums[kRows][2] = {};
  int64_t t = 0;
  for (; t < n_steps - ahead; ++t) {
    prefetch_step<Kernel, kRows>(rows, (t + ahead) * kBytes);
    kernel.template step<kRows>(rows, t, sums);
  }
  for (int64_t offset = 0; t < n_steps; ++t, offset += kBytes) {
    prefetch_step<Kernel, kRows>(next, offset);
    kernel.template step<kRows>(rows, t, sums);
  }
  kernel.template tail<kRows>(rows, sums);
  for (int r = 0; r < kRows; ++r) out[r] = kernel.total(sums[r][0], sums[r][1]);
}

template <class Kernel>
void matvec_rows(const MatvecArgs& args) {
  const Kernel kernel(args);
  const auto row_at = [&args](int64_t i) {
    const int64_t at = i < args.end ? i : args.end - 1;
    return args.w + (args.rows != nullptr ? args.rows[at] : at) * args.row_stride_bytes;
  };
  int64_t i = args.begin;
  for (; i + kRowGroup <= args.end; i += kRowGroup) {
    const std::byte* rows[kRowGroup];
    const std::byte* next[kRowGroup];
    for (int r = 0; r < kRowGroup; ++r) {
      rows[r] = row_at(i + r);
      next[r] = row_at(i + kRowGroup + r);
    }
    dot_rows<Kernel, kRowGroup>(kernel, rows, next, args.out + i);
  }
  for (; i < args.end; ++i) {
    const std::byte* row = row_at(i);
    const std::byte* next = row_at(i + 1);
    dot_rows<Kernel, 1>(kernel, &row, &next, args.out + i);
  }
}

}  // namespace thermocline
