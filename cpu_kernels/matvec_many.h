// The loop of products with a few tokens. Weights are read from memory once, a row (or two) at a
// time, which is decoded once for all tokens. Where the tokens' vectors do not fit the first cache,
// a group of rows is taken tile by tile of its columns, and the sums wait in memory in between.
// What is read next, in this order, is prefetched.
//
// A kernel is one of matvec_rows.h. Its steps are called with the number of tokens as a second
// parameter, and then sums[r * kTokens + token] are those of a row and a token. Each is added to in
// the order of the columns, as for one token, and so has the same bits. The kernel also has
//   kVectorStepBytes     what one step reads of a token's vector, about
//   kMostTokens          tokens that it takes at once (4, 6 or 8); more are taken in turn, from the
//                        second cache
//   kManyRows<kTokens>   rows that it takes at once: 1 or 2
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/matvec_rows.h"
#include "cpu_kernels/prefetch_lines.h"
#include "cpu_kernels/prefetch_plan.h"

namespace thermocline {

template <class Kernel>
class ManyLoop {
 public:
  explicit ManyLoop(const MatvecArgs& args)
      : args_(args),
        n_steps_(Kernel(args).full_steps()),
        group_(std::clamp<int64_t>(kManyGroupBytes / std::max<int64_t>(args.row_stride_bytes, 1),
                                   kLeastRows, kMostRows)) {}

  void run() const {
    for (int64_t i = args_.begin; i < args_.end; i += group_) {
      const int64_t n = std::min(group_, args_.end - i);
      const int64_t n_parts = (args_.n_tokens + Kernel::kMostTokens - 1) / Kernel::kMostTokens;
      for (int64_t part = 0; part < n_parts; ++part) {
        const int64_t first = args_.n_tokens * part / n_parts;
        run_tokens(i, n, first, args_.n_tokens * (part + 1) / n_parts - first);
      }
    }
  }

 private:
  using Reg = typename Kernel::Reg;
  static constexpr int64_t kLeastRows = 4;
  static constexpr int64_t kMostRows = 16;
  static constexpr int64_t kManySteps = thermocline::kManySteps<Kernel>;

  void run_tokens(int64_t i, int64_t n, int64_t first, int64_t n_tokens) const {
    switch (n_tokens) {
      case 1:
        return group<1>(i, n, first);
      case 2:
        return group<2>(i, n, first);
      case 3:
        return group<3>(i, n, first);
      case 4:
        return group<4>(i, n, first);
      default:
        if constexpr (Kernel::kMostTokens > 4) {
          if (n_tokens == 5) return group<5>(i, n, first);
          if (n_tokens == 6) return group<6>(i, n, first);
        }
        if constexpr (Kernel::kMostTokens > 6) {
          if (n_tokens == 8) return group<8>(i, n, first);
          group<4>(i, n, first);
          group<3>(i, n, first + 4);
        }
    }
  }

  // Rows past the end are only prefetched: another part of the matrix follows as a rule.
  const std::byte* row_at(int64_t i) const {
    if (args_.rows == nullptr) return args_.w + i * args_.row_stride_bytes;
    return args_.w + args_.rows[i < args_.end ? i : args_.end - 1] * args_.row_stride_bytes;
  }

  template <int kTokens>
  void group(int64_t i, int64_t n, int64_t first) const {
    MatvecArgs mine = args_;
    mine.x = static_cast<const std::byte*>(args_.x) + first * args_.x_stride_bytes;
    const Kernel kernel(mine);
    constexpr int kRows = Kernel::template kManyRows<kTokens>;
    const int64_t tile = tile_steps(kTokens);
    const int64_t rows_ahead =
        kRows * std::max<int64_t>(1, kManyAheadBytes / (kRows * tile * Kernel::kStepBytes));
    alignas(64) Reg waiting[kMostRows * kTokens][2];
    float* const out = args_.out + first * args_.out_stride + i;
    int64_t begin = 0;
    do {
      const int64_t end = std::min(begin + tile, n_steps_);
      const auto ahead_of = [&](int64_t r) {
        if (r < n) return row_at(i + r) + begin * Kernel::kStepBytes;
        if (end < n_steps_) return row_at(i + r - n) + end * Kernel::kStepBytes;
        return row_at(i + r);
      };
      int64_t r = 0;
      for (; r + kRows <= n; r += kRows) {
        const std::byte* ahead[kRows];
        for (int k = 0; k < kRows; ++k) ahead[k] = ahead_of(r + k + rows_ahead);
        rows<kRows, kTokens>(kernel, i + r, begin, end, ahead, waiting + r * kTokens, out + r);
      }
      if constexpr (kRows > 1) {
        for (; r < n; ++r) {
          const std::byte* const ahead = ahead_of(r + rows_ahead);
          rows<1, kTokens>(kernel, i + r, begin, end, &ahead, waiting + r * kTokens, out + r);
        }
      }
      begin = end;
    } while (begin < n_steps_);
  }

  int64_t tile_steps(int64_t n_tokens) const {
    const int64_t by_vectors = kVectorsBytes / (n_tokens * Kernel::kVectorStepBytes);
    const int64_t by_bytes = kManyAheadBytes / Kernel::kStepBytes;
    const int64_t most = std::max(std::min(by_vectors, by_bytes), kManySteps);
    const int64_t n_tiles = (n_steps_ + most - 1) / most;
    if (n_tiles <= 1) return std::max<int64_t>(n_steps_, 1);
    return ((n_steps_ + n_tiles - 1) / n_tiles + kManySteps - 1) / kManySteps * kManySteps;
  }

  template <int kRows, int kTokens>
  void rows(const Kernel& kernel, int64_t i, int64_t begin, int64_t end,
            const std::byte* const* ahead, Reg (*waiting)[2], float* out) const {
    const std::byte* row[kRows];
    const std::byte* next[kRows];
    for (int r = 0; r < kRows; ++r) {
      row[r] = row_at(i + r);
      next[r] = ahead[r];
    }
    Reg sums[kRows * kTokens][2] = {};
    if (begin > 0) {
#pragma GCC unroll 16
      for (int s = 0; s < kRows * kTokens; ++s) {
        sums[s][0] = waiting[s][0];
        sums[s][1] = waiting[s][1];
      }
    }
    int64_t t = begin;
    if constexpr (kManySteps > 1) {
      for (; t <= end - kManySteps; t += kManySteps) {
        prefetch<kRows, kManySteps * Kernel::kStepBytes>(next);
        kernel.template many_steps<kRows, kTokens>(row, t, sums);
      }
    }
    for (; t < end; ++t) {
      prefetch<kRows, Kernel::kStepBytes>(next);
      kernel.template step<kRows, kTokens>(row, t, sums);
    }
    if (end < n_steps_) {
#pragma GCC unroll 16
      for (int s = 0; s < kRows * kTokens; ++s) {
        waiting[s][0] = sums[s][0];
        waiting[s][1] = sums[s][1];
      }
      return;
    }
    kernel.template tail<kRows, kTokens>(row, sums);
#pragma GCC unroll 16
    for (int s = 0; s < kRows * kTokens; ++s) {
      out[s % kTokens * args_.out_stride + s / kTokens] = kernel.total(sums[s][0], sums[s][1]);
    }
  }

  template <int kRows, int64_t kBytes>
  [[gnu::always_inline]] inline void prefetch(const std::byte** next) const {
    for (int r = 0; r < kRows; ++r) {
      prefetch_lines<kBytes>(next[r], near_);
      next[r] += kBytes;
    }
  }

  const MatvecArgs& args_;
  int64_t n_steps_;
  int64_t group_;
  const bool near_ = prefetches_near();
};

template <class Kernel>
void matvec_many(const MatvecArgs& args) {
  if (args.n_tokens == 1) return matvec_rows<Kernel>(args);
  ManyLoop<Kernel>(args).run();
}

}  // namespace thermocline
