// Computes y_t += sum_i h_t[i] W[i, :] for several tokens t, for any vector unit V and the types
// whose weights take long to decode: those that are read as octets, and Q6_K. Some rows of the list
// are decoded together, a strip of columns at a time, into memory that stays in the first cache;
// then registers of every token's y take all of these rows, in the order of the list. So weights
// are read and decoded once for all tokens, and each column of a token is the chain of fused
// multiply-adds that accumulate_rows makes of it, to the same bits. A token that leaves a row out
// has h = 0 there, which changes nothing where weights are finite.
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_plan.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

// The part that is the same for all types: some rows, decoded, are added to every token's y.
// kScaled: blocks of 32 have a scale that goes into the factor.
template <class V, bool kScaled>
class DecodedRows {
 public:
  static constexpr int kRows = 16;
  static constexpr int64_t kCols = 256;
  static constexpr int64_t kBlocks = kCols / kQuantBlock;

  explicit DecodedRows(const AccumulateArgs& args) : args_(args) {}

  float* weights(int64_t r) { return weights_[r]; }
  void set_scale(int64_t r, int64_t block, float scale) { scales_[block][r] = scale; }

  // Adds n rows from `first` of the list on, of which columns [col, end) are decoded.
  void add_to_all(int64_t first, int64_t n, int64_t col, int64_t end) {
    for (int64_t token = 0; token < args_.n_tokens; token += kMostTokens) {
      const int64_t n_tokens = std::min(kMostTokens, args_.n_tokens - token);
      read_factors(token, n_tokens, first, n);
      take_tokens(token, n_tokens, n, col, end);
    }
  }

 private:
  using Reg = typename V::Reg;
  static constexpr int64_t kMostTokens = 8;

  // Registers of y of each token at once.
  template <int kTokens>
  static constexpr int kTile = V::kLanes == 16 ? (kTokens <= 2   ? 8
                                                  : kTokens <= 6 ? 4
                                                                 : 2)
                                               : (kTokens <= 3   ? 4
                                                  : kTokens <= 6 ? 2
                                                                 : 1);

  // h of the rows at hand, a token's side by side.
  void read_factors(int64_t token, int64_t n_tokens, int64_t first, int64_t n) {
    for (int64_t t = 0; t < n_tokens; ++t) {
      const float* const from = args_.h + (token + t) * args_.h_stride + first;
      for (int64_t r = 0; r < kRows; ++r) h_[t][r] = r < n ? from[r] : 0.0F;
    }
  }

  void take_tokens(int64_t token, int64_t n_tokens, int64_t n, int64_t col, int64_t end) {
    switch (n_tokens) {
      case 1:
        return take<1>(token, 0, n, col, end);
      case 2:
        return take<2>(token, 0, n, col, end);
      case 3:
        return take<3>(token, 0, n, col, end);
      case 4:
        return take<4>(token, 0, n, col, end);
      case 5:
        return take<5>(token, 0, n, col, end);
      case 6:
        return take<6>(token, 0, n, col, end);
      case 7:
        take<4>(token, 0, n, col, end);
        return take<3>(token + 4, 4, n, col, end);
      default:
        return take<8>(token, 0, n, col, end);
    }
  }

  template <int kTokens>
  void take(int64_t token, int64_t slot, int64_t n, int64_t col, int64_t end) {
    alignas(64) float scaled[kTokens][kScaled ? kBlocks : 1][kRows];
    if constexpr (kScaled) {
      const int64_t n_blocks = (end - col) / kQuantBlock;
      for (int t = 0; t < kTokens; ++t) {
        for (int64_t b = 0; b < n_blocks; ++b) {
          for (int r = 0; r < kRows; r += V::kLanes) {
            V::store(scaled[t][b] + r, V::mul(V::load(h_[slot + t] + r), V::load(scales_[b] + r)));
          }
        }
      }
    }
    const auto factors = [&](int t, int64_t at) __attribute__((always_inline)) {
      return kScaled ? scaled[t][at / kQuantBlock] : h_[slot + t];
    };
    float* const y = args_.y + token * args_.y_stride + col;
    constexpr int kTileRegs = kTile<kTokens>;
    int64_t at = 0;
    for (; at + kTileRegs * V::kLanes <= end - col; at += kTileRegs * V::kLanes) {
      add<kTokens, kTileRegs>(y + at, at, n, factors);
    }
    for (; at + V::kLanes <= end - col; at += V::kLanes) add<kTokens, 1>(y + at, at, n, factors);
  }

  // Adds n rows to kTile registers of each token's y.
  template <int kTokens, int kTileRegs, class Factors>
  [[gnu::always_inline]] inline void add(float* y, int64_t at, int64_t n, const Factors& factors) {
    constexpr int kPerBlock = kQuantBlock / V::kLanes;
    constexpr int kFactors = kTileRegs > kPerBlock ? kTileRegs / kPerBlock : 1;
    Reg sums[kTokens][kTileRegs];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
      for (int v = 0; v < kTileRegs; ++v) {
        sums[t][v] = V::load(y + t * args_.y_stride + v * V::kLanes);
      }
    }
    for (int64_t r = 0; r < n; ++r) {
      Reg w[kTileRegs];
#pragma GCC unroll 8
      for (int v = 0; v < kTileRegs; ++v) w[v] = V::load(weights_[r] + at + v * V::kLanes);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
        for (int b = 0; b < kFactors; ++b) {
          const Reg factor = V::set1(factors(t, at + b * kQuantBlock)[r]);
          constexpr int kEach = kTileRegs / kFactors;
#pragma GCC unroll 8
          for (int v = b * kEach; v < (b + 1) * kEach; ++v) {
            sums[t][v] = V::fma(factor, w[v], sums[t][v]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
      for (int v = 0; v < kTileRegs; ++v) {
        V::store(y + t * args_.y_stride + v * V::kLanes, sums[t][v]);
      }
    }
  }

  const AccumulateArgs& args_;
  alignas(64) float h_[kMostTokens][kRows];   // of tokens
  alignas(64) float scales_[kBlocks][kRows];  // of blocks of the strip
  alignas(64) float weights_[kRows][kCols];   // of the strip
};

template <class V, DType kType>
class ManyAccumulator {
 public:
  explicit ManyAccumulator(const AccumulateArgs& args) : args_(args), decoded_(args) {}

  void run() {
    for (int64_t first = 0; first < args_.n_rows; first += Decoded::kRows) {
      const int64_t n = std::min<int64_t>(Decoded::kRows, args_.n_rows - first);
      int64_t col = args_.col_begin;
      while (col < args_.col_end) {
        const int64_t end = std::min((col / Decoded::kCols + 1) * Decoded::kCols, args_.col_end);
        for (int64_t r = 0; r < n; ++r) {
          prefetch(row_at(first + r + Decoded::kRows), col, end);
          decode(row_at(first + r), r, col, end);
        }
        decoded_.add_to_all(first, n, col, end);
        col = end;
      }
    }
  }

 private:
  using W = Weights<V, kType>;
  using Reg = typename V::Reg;
  // Blocks of Q6_K have a scale that goes into the factor. Other types' weights are made whole.
  using Decoded = DecodedRows<V, !reads_octets<W>()>;

  const std::byte* row_at(int64_t i) const {
    const int64_t at = i < args_.n_rows ? i : args_.n_rows - 1;
    return args_.w + (args_.rows != nullptr ? args_.rows[at] : at) * args_.row_stride_bytes;
  }

  void decode(const std::byte* row, int64_t r, int64_t col, int64_t end) {
    float* out = decoded_.weights(r);
    if constexpr (reads_octets<W>()) {
      W::to_floats(row, col, end, out);
    } else {
      for (int64_t at = col; at < end; at += kQuantBlock, out += kQuantBlock) {
        Reg block[W::kRegs];
        const Reg scale = load_block<W>(row, at, block);
        decoded_.set_scale(r, (at - col) / kQuantBlock, V::lane_0(scale));
        for (int v = 0; v < W::kRegs; ++v) V::store(out + v * V::kLanes, block[v]);
      }
    }
  }

  [[gnu::always_inline]] static inline void prefetch(const std::byte* row, int64_t col,
                                                     int64_t end) {
    const int64_t last = column_offset<W>(end - 1) + W::kBytes;
    for (int64_t at = column_offset<W>(col); at < last; at += kCacheLine) {
      _mm_prefetch(reinterpret_cast<const char*>(row + at), _MM_HINT_T1);
    }
  }

  const AccumulateArgs& args_;
  Decoded decoded_;
};

template <class V, DType kType>
void accumulate_many(const AccumulateArgs& args) {
  ManyAccumulator<V, kType>(args).run();
}

}  // namespace thermocline
