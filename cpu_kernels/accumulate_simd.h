// Computes y += sum_i h_i W[i, :] for any vector unit V and weight type W (weights_simd.h). It
// takes eight rows of the list at a time: a strip of y is loaded once, takes eight fused
// multiply-adds per element in the order of the list, and is stored. y (d_model f32) stays in L1.
// What the rows need next is prefetched, further on in the same rows or in those that follow in the
// list. Of several tokens, the strips of as many y as registers hold take a row's weights as they
// are decoded; more tokens take some rows in turn, from the second cache. For quantised rows h_i *
// d is one f32 scale per block, computed for some blocks of all eight rows before their weights are
// looked at. Weights with an offset are decoded first (d q + m, rounded once) and then multiplied
// by h_i: sums of the offsets apart would depend on how the list falls into groups. So are those of
// types that are read as octets.
#pragma once

#include <immintrin.h>

#include <utility>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_plan.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

inline constexpr int kAccumulateRows = 8;

// Where the tokens at hand have their factors of the rows at hand, and their strips of y.
struct StripTokens {
  const float* h;
  int64_t h_stride;
  float* y;
  int64_t y_stride;

  StripTokens at(int64_t col) const { return {h, h_stride, y + col, y_stride}; }
};

// Says how strips of y of kTokens tokens take kRows rows, whose weights for them lie at w[r] +
// offset. kMostTokens at once.
template <class V, class W>
struct Strips {
  using Reg = typename V::Reg;
  static constexpr bool kWide = V::kLanes == 16;
  static constexpr int kMostTokens = W::kBlocks || !kWide ? 3 : 6;
  static constexpr int kBlocks = kWide ? 4 : 1;  // quantised types, side by side
  static constexpr int64_t kCols = W::kBlocks ? kBlocks * kQuantBlock : 4 * V::kLanes;

  template <int kRows, int kTokens>
  static void add(const std::byte* const* w, int64_t offset, const StripTokens& to) {
    if constexpr (W::kBlocks) {
      add_blocks<kRows, kBlocks, kTokens>(w, offset, to);
    } else {
      add_floats<kRows, kTokens>(w, offset, to);
    }
  }

  // The n columns that do not fill a strip, of one token.
  template <int kRows>
  static void add_rest(const std::byte* const* w, int64_t offset, const StripTokens& to,
                       int64_t n) {
    for (int64_t col = 0; col < n; col += W::kBlocks ? kQuantBlock : V::kLanes) {
      const int64_t at = offset + column_offset<W>(col);
      if constexpr (W::kBlocks) {
        add_blocks<kRows, 1, 1>(w, at, to.at(col));
      } else {
        add_some_floats<kRows>(w, at, to.h, to.y + col, n - col < V::kLanes ? n - col : V::kLanes);
      }
    }
  }

 private:
  template <int kRows, int kTokens>
  static void add_floats(const std::byte* const* w, int64_t offset, const StripTokens& to) {
    Reg sums[kTokens][4];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < 4; ++v) sums[t][v] = V::load(to.y + t * to.y_stride + v * V::kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const Reg weights = W::load(w[r] + offset + v * V::kLanes * W::kBytes);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          sums[t][v] = V::fma(V::set1(to.h[t * to.h_stride + r]), weights, sums[t][v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < 4; ++v) V::store(to.y + t * to.y_stride + v * V::kLanes, sums[t][v]);
    }
  }

  template <int kRows>
  static void add_some_floats(const std::byte* const* w, int64_t offset, const float* h, float* y,
                              int64_t n) {
    Reg sum = V::load_n(y, n);
    for (int r = 0; r < kRows; ++r) sum = V::fma(V::set1(h[r]), W::load_n(w[r] + offset, n), sum);
    V::store_n(y, sum, n);
  }

  // Where registers allow it blocks go side by side: the additions to one column wait for each
  // other.
  template <int kRows, int kSideBySide, int kTokens>
  static void add_blocks(const std::byte* const* w, int64_t offset, const StripTokens& to) {
    constexpr int kRegs = kSideBySide * W::kRegs;
    Reg sums[kTokens][kRegs];
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kRegs; ++v) sums[t][v] = V::load(to.y + t * to.y_stride + v * V::kLanes);
    }
    // The loop is unrolled so that each row has loads of its own: one load that goes from row to
    // row looks like a stride to the prefetcher, which then fetches rows beyond the last.
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      for (int b = 0; b < kSideBySide; ++b) {
        Reg weights[W::kRegs];
        const std::byte* block = w[r] + offset + b * W::kBytes;
        W::integers(block, weights);
        const Reg scale = W::scale(block);
        if constexpr (HasOffset<W>) {
          const Reg m = W::offset(block);
          for (int v = 0; v < W::kRegs; ++v) weights[v] = V::fma(scale, weights[v], m);
        }
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          Reg factor = V::set1(to.h[t * to.h_stride + r]);
          if constexpr (!HasOffset<W>) factor = V::mul(factor, scale);
          Reg* sum = sums[t] + b * W::kRegs;
          for (int v = 0; v < W::kRegs; ++v) sum[v] = V::fma(factor, weights[v], sum[v]);
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kRegs; ++v) V::store(to.y + t * to.y_stride + v * V::kLanes, sums[t][v]);
    }
  }
};

// Strip is a class like Strips<V, W>. args: kTokens tokens.
template <class W, class Strip, int kRows, int kTokens>
class RowAccumulator {
 public:
  static constexpr int64_t kCols = Strip::kCols;
  static constexpr int64_t kStripBytes = column_offset<W>(kCols);

  explicit RowAccumulator(const AccumulateArgs& args)
      : args_(args),
        n_strips_((args.col_end - args.col_begin) / kCols),
        plan_(n_strips_, kStripBytes, kScatteredAheadBytes) {}

  // Adds entries [first, first + kRows) of the list.
  void run(int64_t first) const {
    const std::byte* rows[kRows];
    const std::byte* ahead[kRows];
    const std::byte* after[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = row_at(first + r);
      ahead[r] = row_at(first + r + plan_.groups * kRows);
      after[r] = row_at(first + r + (plan_.groups + 1) * kRows);
    }
    StripTokens to = {args_.h + first, args_.h_stride, args_.y + args_.col_begin, args_.y_stride};
    int64_t s = 0;
    for (; s < n_strips_ - plan_.steps; ++s, to.y += kCols) {
      prefetch(ahead, s + plan_.steps);
      Strip::template add<kRows, kTokens>(rows, s * kStripBytes, to);
    }
    for (int64_t step = 0; s < n_strips_; ++s, ++step, to.y += kCols) {
      prefetch(after, step);
      Strip::template add<kRows, kTokens>(rows, s * kStripBytes, to);
    }
    const int64_t rest = args_.y + args_.col_end - to.y;
    for (int t = 0; t < kTokens; ++t, to.h += to.h_stride, to.y += to.y_stride) {
      Strip::template add_rest<kRows>(rows, s * kStripBytes, to, rest);
    }
  }

 private:
  const std::byte* row_at(int64_t i) const {
    const int64_t at = i < args_.n_rows ? i : args_.n_rows - 1;
    const int64_t row = args_.rows != nullptr ? args_.rows[at] : at;
    return args_.w + row * args_.row_stride_bytes + column_offset<W>(args_.col_begin);
  }

  // Into the second cache, of which more lines can be on their way than into the first: Zen 4 then
  // reads scattered rows of 6 kB 1.1 to 1.2 times as fast.
  // Inlining is forced, since GCC takes a function that only prefetches for one without effect and
  // drops the call.
  [[gnu::always_inline]] static inline void prefetch(const std::byte* const* from, int64_t strip) {
    const int64_t offset = strip * kStripBytes;
    for (int r = 0; r < kRows; ++r) {
      for (int64_t line = 0; line < kStripBytes; line += kCacheLine) {
        _mm_prefetch(reinterpret_cast<const char*>(from[r] + offset + line), _MM_HINT_T1);
      }
    }
  }

  const AccumulateArgs& args_;
  int64_t n_strips_;
  PrefetchPlan plan_;
};

// Adds entries [first, end), as many groups of kRows as there are. Returns the first entry that is
// left.
template <class W, class Strip, int kRows, int kTokens = 1>
int64_t accumulate_groups(const AccumulateArgs& args, int64_t first, int64_t end) {
  const RowAccumulator<W, Strip, kRows, kTokens> group(args);
  for (; first + kRows <= end; first += kRows) group.run(first);
  return first;
}

// args: up to kTokens tokens, a number known only at run time.
template <class W, class Strip, int kTokens>
void accumulate_tokens_of_rows(const AccumulateArgs& args, int64_t first, int64_t end) {
  if (args.n_tokens == kTokens) {
    first = accumulate_groups<W, Strip, kAccumulateRows, kTokens>(args, first, end);
    if constexpr (kTokens == 1 && !reads_octets<W>()) {
      first = accumulate_groups<W, Strip, 4>(args, first, end);
      first = accumulate_groups<W, Strip, 2>(args, first, end);
    }
    AccumulateArgs one = args;
    for (int t = 0; t < kTokens; ++t, one.h += args.h_stride, one.y += args.y_stride) {
      accumulate_groups<W, Strip, 1>(one, first, end);
    }
  } else if constexpr (kTokens > 1) {
    accumulate_tokens_of_rows<W, Strip, kTokens - 1>(args, first, end);
  }
}

template <class W, class Strip>
void accumulate_strips(const AccumulateArgs& args) {
  constexpr int64_t kMost = Strip::kMostTokens;
  const int64_t n_parts = (args.n_tokens + kMost - 1) / kMost;
  int64_t group = args.n_rows;
  if (n_parts > 1) {
    group = kManyGroupBytes / (args.row_stride_bytes + 1) / kAccumulateRows * kAccumulateRows;
    group = group < kAccumulateRows ? kAccumulateRows : group;
  }
  for (int64_t first = 0; first < args.n_rows; first += group) {
    const int64_t end = args.n_rows - first < group ? args.n_rows : first + group;
    for (int64_t part = 0; part < n_parts; ++part) {
      const int64_t token = args.n_tokens * part / n_parts;
      AccumulateArgs mine = args;
      mine.h += token * args.h_stride;
      mine.y += token * args.y_stride;
      mine.n_tokens = args.n_tokens * (part + 1) / n_parts - token;
      accumulate_tokens_of_rows<W, Strip, kMost>(mine, first, end);
    }
  }
}

// What Strips does, of types that are read as octets: a strip is an octet of columns, whose weights
// are decoded into registers, a few chunks of all rows after the other.
template <class V, DType kType>
struct OctetStrips {
  using Reg = typename V::Reg;
  using TypeOctet = Octet<V, kType>;
  // What is decoded by chunks is no type of rows by neuron (for_down), so one token will do.
  static constexpr int kMostTokens = kIsByChunks<kType> ? 1 : V::kLanes == 16 ? 4 : 3;
  static constexpr int64_t kCols = kOctetCols;

  template <int kRows, int kTokens>
  static void add(const std::byte* const* w, int64_t offset, const StripTokens& to) {
    add_octets<kTokens>(w, offset, to, std::make_integer_sequence<int, kRows>());
  }

  // The n columns, a multiple of 32, that do not fill a strip, of one token.
  template <int kRows>
  static void add_rest(const std::byte* const* w, int64_t offset, const StripTokens& to,
                       int64_t n) {
    if (n > 0) add_part(w, kRows, offset, 0, n, to.h, to.y);
  }

  // Columns [begin, end) of an octet.
  static void add_part(const std::byte* const* w, int n_rows, int64_t offset, int64_t begin,
                       int64_t end, const float* h, float* y) {
    alignas(64) float weights[kOctetCols];
    for (int r = 0; r < n_rows; ++r) {
      octet_to_floats<V, kType>(w[r] + offset, begin / kQuantBlock, end / kQuantBlock, weights);
      for (int64_t i = 0; i < end - begin; i += V::kLanes) {
        V::store(y + i, V::fma(V::set1(h[r]), V::load(weights + i), V::load(y + i)));
      }
    }
  }

 private:
  static constexpr int kRegs = kQuantBlock / V::kLanes;
  static constexpr OctetCentre kCentre = octet_centre(kType);
  static constexpr bool kHasOffsets = !TypeOctet::kSigned && kCentre.centre == 0;

  template <int kTokens, int... kRow>
  static void add_octets(const std::byte* const* w, int64_t offset, const StripTokens& to,
                         std::integer_sequence<int, kRow...> /*rows*/) {
    constexpr int kRows = sizeof...(kRow);
    const TypeOctet octets[kRows] = {TypeOctet{w[kRow] + offset}...};
    OctetFactorArrays factors[kRows];
    for (int r = 0; r < kRows; ++r) {
      store_factors<V, kHasOffsets>(octets[r], &factors[r]);
      if constexpr (kCentre.times != 1) {
        static_assert(!TypeOctet::kHalves);
        for (int c = 0; c < kOctetChunks; ++c) factors[r].scales[c] *= 1.0F / kCentre.times;
      }
    }
    const auto add_chunks = [&]<int... kChunk>() __attribute__((always_inline)) {
      constexpr int kChunks = sizeof...(kChunk);
      float* const y[kChunks] = {to.y + kChunk * kQuantBlock...};
      Reg sums[kTokens][kChunks][kRegs];
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        for (int c = 0; c < kChunks; ++c) {
          for (int v = 0; v < kRegs; ++v) {
            sums[t][c][v] = V::load(y[c] + t * to.y_stride + v * V::kLanes);
          }
        }
      }
#pragma GCC unroll 1
      for (int r = 0; r < kRows; ++r) {
        Reg weights[kChunks][kRegs];
        int c = 0;
        (decode<kChunk>(octets[r], factors[r], weights[c++]), ...);
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          const Reg factor = V::set1(to.h[t * to.h_stride + r]);
          for (c = 0; c < kChunks; ++c) {
            for (int v = 0; v < kRegs; ++v) {
              sums[t][c][v] = V::fma(factor, weights[c][v], sums[t][c][v]);
            }
          }
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        for (int c = 0; c < kChunks; ++c) {
          for (int v = 0; v < kRegs; ++v) {
            V::store(y[c] + t * to.y_stride + v * V::kLanes, sums[t][c][v]);
          }
        }
      }
    };
    // Two chunks at a time have one load for what both are read from, and twice the sums that need
    // not wait for each other; 16 registers have no room for them.
    if constexpr (V::kLanes == 16) {
      each_two_chunks<kType>(add_chunks);
    } else {
      each_chunk<V>(add_chunks);
    }
  }

  // Decodes a chunk. A centre is taken from the bytes, which needs no offset for each chunk or
  // half.
  template <int kChunk>
  [[gnu::always_inline]] static inline void decode(const TypeOctet& octet,
                                                   const OctetFactorArrays& factors, Reg* weights) {
    __m256i bytes = octet.template bytes<kChunk>();
    if constexpr (kCentre.times == 2) bytes = _mm256_add_epi8(bytes, bytes);
    if constexpr (kCentre.centre != 0) {
      bytes = _mm256_sub_epi8(bytes, _mm256_set1_epi8(kCentre.centre));
    }
    V::widen_bytes(bytes, weights);
    for (int v = 0; v < kRegs; ++v) {
      const int at = TypeOctet::kHalves ? 2 * kChunk + 2 * v / kRegs : kChunk;
      const Reg scale = V::set1(factors.scales[at]);
      if constexpr (kHasOffsets) {
        weights[v] = V::fma(scale, weights[v], V::set1(factors.offsets[at]));
      } else {
        weights[v] = V::mul(scale, weights[v]);
      }
    }
  }
};

// Adds the columns before the first whole octet. Returns the first that is left.
template <class V, DType kType>
int64_t add_octet_head(const AccumulateArgs& args) {
  const int64_t begin = args.col_begin % kOctetCols;
  if (begin == 0) return args.col_begin;
  const int64_t octet = args.col_begin / kOctetCols;
  const int64_t octet_end = (octet + 1) * kOctetCols;
  const int64_t end = args.col_end < octet_end ? args.col_end : octet_end;
  for (int64_t t = 0; t < args.n_tokens; ++t) {
    for (int64_t i = 0; i < args.n_rows; ++i) {
      const int64_t row = args.rows != nullptr ? args.rows[i] : i;
      const std::byte* const w = args.w + row * args.row_stride_bytes;
      OctetStrips<V, kType>::add_part(&w, 1, octet * kOctetBytes<kType>, begin,
                                      end - octet * kOctetCols, args.h + t * args.h_stride + i,
                                      args.y + t * args.y_stride + args.col_begin);
    }
  }
  return end;
}

// args: any number of tokens.
template <class V, DType kType>
void accumulate(const AccumulateArgs& args) {
  using W = Weights<V, kType>;
  if constexpr (reads_octets<W>()) {
    AccumulateArgs rest = args;
    rest.col_begin = add_octet_head<V, kType>(args);
    if (rest.col_begin < rest.col_end) accumulate_strips<W, OctetStrips<V, kType>>(rest);
  } else {
    accumulate_strips<W, Strips<V, W>>(args);
  }
}

}  // namespace thermocline
