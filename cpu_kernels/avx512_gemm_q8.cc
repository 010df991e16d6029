// Multiplies batches of tokens by Q8_0, Q4_0 and Q4_1 rows, in int8 through VNNI.
//
// Bytes of a panel are unsigned as in avx512_vnni.cc: Q8_0 as w + 128, Q4_0 as 16 * (w + 8) with
// its scale divided by 16, so one kernel serves both and owes 128 * sum(x), which the integer sums
// start from. Q4_1's are its nibbles, and its kernel adds offsets times sums of x.
#include <type_traits>

#include "cpu_kernels/avx512.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/gemm_integer_avx512.h"
#include "cpu_kernels/simd_avx512.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

struct Q8Op {
  using Sum = __m512i;
  static constexpr int kProducts = 64;
  static constexpr int kTileTokens = 6;
  static constexpr int64_t kBlock = kQuantBlock;
  static constexpr int kWords = kQuantBlock / 4;
  static constexpr bool kStarts = true;
  static constexpr bool kOffsets = false;
  static constexpr int kUnroll = 8;
  [[gnu::always_inline]] static inline __m512i multiply_add(__m512i sum, __m512i w, __m512i x) {
    return _mm512_dpbusd_epi32(sum, w, x);
  }
};
struct Q8OffsetOp : Q8Op {
  static constexpr bool kStarts = false;
  static constexpr bool kOffsets = true;
};
using Q8Tile = IntegerTile<Q8Op>;
using Q8OffsetTile = IntegerTile<Q8OffsetOp>;
static_assert(Q8OffsetTile::kInputStepBytes == Q8Tile::kInputStepBytes);

template <DType kType>
using TileOf = std::conditional_t<gemm_q8_offset_takes(kType), Q8OffsetTile, Q8Tile>;
constexpr int kWords = Q8Op::kWords;

// 16 rows that lie a stride apart, held as four addresses: sixteen would not fit the general
// registers.
struct RowsOf16 {
  const std::byte* quarter[4];
  int64_t stride;

  RowsOf16(const std::byte* first, int64_t stride_bytes)
      : quarter{first, first + 4 * stride_bytes, first + 8 * stride_bytes,
                first + 12 * stride_bytes},
        stride(stride_bytes) {}
  [[gnu::always_inline]] void advance(int64_t bytes) {
    for (const std::byte*& p : quarter) p += bytes;
  }
};

// Loads 16 bytes of each row at `offset`, transposed: register c holds word c of every row, in the
// order of the rows.
[[gnu::always_inline]] inline void transpose_words(const RowsOf16& rows, int64_t offset,
                                                   __m512i* words) {
  __m512i lanes[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const auto part = [&](int quarter) {
      return _mm_loadu_si128(
          reinterpret_cast<const __m128i*>(rows.quarter[quarter] + j * rows.stride + offset));
    };
    lanes[j] = _mm512_castsi128_si512(part(0));
    lanes[j] = _mm512_inserti32x4(lanes[j], part(1), 1);
    lanes[j] = _mm512_inserti32x4(lanes[j], part(2), 2);
    lanes[j] = _mm512_inserti32x4(lanes[j], part(3), 3);
  }
  const __m512i low01 = _mm512_unpacklo_epi32(lanes[0], lanes[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(lanes[0], lanes[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(lanes[2], lanes[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(lanes[2], lanes[3]);
  words[0] = _mm512_unpacklo_epi64(low01, low23);
  words[1] = _mm512_unpackhi_epi64(low01, low23);
  words[2] = _mm512_unpacklo_epi64(high01, high23);
  words[3] = _mm512_unpackhi_epi64(high01, high23);
}

template <DType kType>
struct Source {
  static_assert(kHandlesType<kType>, "say how a panel in int8 is packed");
};

template <>
struct Source<DType::kQ8_0> {
  static constexpr float kScale = 1.0F;
  [[gnu::always_inline]] static inline void pack_block(const RowsOf16& rows, std::byte* out) {
    const __m512i top = _mm512_set1_epi8(-128);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m512i words[4];
      transpose_words(rows, 2 + half * 16, words);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        _mm512_store_si512(out + (half * 4 + c) * 128, _mm512_xor_si512(words[c], top));
      }
    }
  }
};

template <>
struct Source<DType::kQ4_0> {
  static constexpr float kScale = 1.0F / 16;
  [[gnu::always_inline]] static inline void pack_block(const RowsOf16& rows, std::byte* out) {
    const __m512i top = _mm512_set1_epi8(-16);
    __m512i words[4];
    transpose_words(rows, 2, words);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512i first = _mm512_and_si512(_mm512_slli_epi16(words[c], 4), top);
      _mm512_store_si512(out + c * 128, first);
      _mm512_store_si512(out + (4 + c) * 128, _mm512_and_si512(words[c], top));
    }
  }
};

// Q4_1's nibbles are unsigned as they are.
template <>
struct Source<DType::kQ4_1> {
  [[gnu::always_inline]] static inline void pack_block(const RowsOf16& rows, std::byte* out) {
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i words[4];
    transpose_words(rows, 4, words);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512i second = _mm512_and_si512(_mm512_srli_epi16(words[c], 4), mask);
      _mm512_store_si512(out + c * 128, _mm512_and_si512(words[c], mask));
      _mm512_store_si512(out + (4 + c) * 128, second);
    }
  }
};

constexpr int kChunk = 8;  // blocks whose scales are collected at a time

// Reads the f16 of 16 rows' blocks as f32: scales, or with kOffset what follows them.
template <bool kOffset>
[[gnu::always_inline]] inline __m512 factors_of(const uint32_t* pairs) {
  const __m512i words = _mm512_loadu_si512(pairs);
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(kOffset ? _mm512_srli_epi32(words, 16) : words));
}

// Packs n_blocks <= kChunk blocks of 16 rows as one half of a panel.
template <DType kType>
[[gnu::always_inline]] inline void pack_chunk(const std::byte* w, int64_t stride, int64_t n_blocks,
                                              LinePrefetcher& ahead, std::byte* out) {
  constexpr bool kOffsets = gemm_q8_offset_takes(kType);
  constexpr int kBlockLines = (16 * kTypeBlockBytes<kType> + 63) / 64;
  std::conditional_t<kOffsets, uint32_t, uint16_t> scales[kChunk][16];  // offsets, too
  RowsOf16 rows(w, stride);
  for (int64_t i = 0; i < n_blocks; ++i) {
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      std::memcpy(&scales[i][r], rows.quarter[r / 4] + r % 4 * stride, sizeof(scales[i][r]));
    }
    for (int line = 0; line < kBlockLines; ++line) ahead.step();
    Source<kType>::pack_block(rows, out + i * TileOf<kType>::kPanelStepBytes);
    rows.advance(kTypeBlockBytes<kType>);
  }
  for (int64_t i = 0; i < n_blocks; ++i) {
    std::byte* factors = out + i * TileOf<kType>::kPanelStepBytes + kWords * 128;
    if constexpr (kOffsets) {
      _mm512_store_ps(factors, factors_of<false>(scales[i]));
      _mm512_store_ps(factors + 128, factors_of<true>(scales[i]));
    } else {
      const __m512 d = Simd::load_f16(scales[i]);
      _mm512_store_ps(factors, _mm512_mul_ps(d, _mm512_set1_ps(Source<kType>::kScale)));
    }
  }
}

// Packs rows [0, n) of 16 as one half of a panel; the other rows become zeros.
template <DType kType>
void pack_group(const std::byte* w, int64_t stride, int64_t n, int64_t n_blocks,
                LinePrefetcher& ahead, std::byte* out) {
  for (int64_t b = 0; b < n_blocks; b += kChunk) {
    const int64_t chunk = n_blocks - b < kChunk ? n_blocks - b : kChunk;
    const std::byte* from = w + b * kTypeBlockBytes<kType>;
    std::byte* to = out + b * TileOf<kType>::kPanelStepBytes;
    if (n == 16) {
      pack_chunk<kType>(from, stride, chunk, ahead, to);
      continue;
    }
    constexpr int64_t kRowBytes = kChunk * kTypeBlockBytes<kType>;
    std::byte rows[16 * kRowBytes] = {};
    for (int64_t r = 0; r < n; ++r) {
      std::memcpy(rows + r * kRowBytes, from + r * stride,
                  static_cast<size_t>(chunk * kTypeBlockBytes<kType>));
    }
    pack_chunk<kType>(rows, kRowBytes, chunk, ahead, to);
  }
}

template <DType kType>
void pack_panels(const GemmPackArgs& args) {
  const int64_t n_blocks = (args.end - args.begin) / kQuantBlock;
  const std::byte* w = args.w + args.begin / kQuantBlock * kTypeBlockBytes<kType>;
  std::byte* panel = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += kGemmPanel) {
    for (int64_t group = 0; group < 2; ++group) {
      const int64_t left = args.n_rows - r - group * 16;
      const int64_t n = left < 0 ? 0 : left < 16 ? left : 16;
      const std::byte* rows = n > 0 ? w + (r + group * 16) * args.row_stride_bytes : w;
      // Scales of the second group lie 64 bytes after those of the first, like its words.
      pack_group<kType>(rows, args.row_stride_bytes, n, n_blocks, ahead, panel + group * 64);
    }
    panel += n_blocks * TileOf<kType>::kPanelStepBytes;
  }
}

// With kOffsets a block's sum goes where its start would.
template <bool kOffsets>
void prepare_tiles(const GemmPrepareArgs& args) {
  const Tiles tiles(args.n_tokens, Q8Tile::kTileTokens);
  const int64_t n_blocks = args.k / kQuantBlock;
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    std::byte* out = args.out + begin * n_blocks * Q8Tile::kInputStepBytes;
    for (int64_t b = 0; b < n_blocks; ++b, out += size * Q8Tile::kInputStepBytes) {
      for (int64_t t = 0; t < size; ++t) {
        alignas(32) int8_t q[kQuantBlock];
        float scale = 0.0F;
        quantise_activations<Simd>(args.x + (begin + t) * args.k + b * kQuantBlock, q, &scale);
        const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(q));
        const __m256i sums =
            _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
        const __m512i wide = _mm512_inserti64x4(_mm512_setzero_si512(), sums, 0);
        const int32_t sum = _mm512_reduce_add_epi32(wide);
        const int32_t start = -128 * sum;
        const float scaled_sum = scale * static_cast<float>(sum);
        auto* words = out + t * 4;
        for (int i = 0; i < kWords; ++i) std::memcpy(words + i * size * 4, q + i * 4, 4);
        if constexpr (kOffsets) {
          std::memcpy(words + kWords * size * 4, &scaled_sum, 4);
        } else {
          std::memcpy(words + kWords * size * 4, &start, 4);
        }
        std::memcpy(words + (kWords + 1) * size * 4, &scale, 4);
      }
    }
  }
}

}  // namespace

int64_t gemm_q8_tile_tokens() { return Q8Tile::kTileTokens; }
int64_t gemm_q8_input_bytes(int64_t n_tokens, int64_t k) {
  return n_tokens * (k / kQuantBlock) * Q8Tile::kInputStepBytes;
}
int64_t gemm_q8_panel_bytes(int64_t k) { return k / kQuantBlock * Q8Tile::kPanelStepBytes; }
int64_t gemm_q8_offset_panel_bytes(int64_t k) {
  return k / kQuantBlock * Q8OffsetTile::kPanelStepBytes;
}

void gemm_q8_prepare(const GemmPrepareArgs& args) { prepare_tiles<false>(args); }
void gemm_q8_offset_prepare(const GemmPrepareArgs& args) { prepare_tiles<true>(args); }

void gemm_q8_pack_rows(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (gemm_q8_takes(type()) || gemm_q8_offset_takes(type())) {
      pack_panels<type()>(args);
    } else if constexpr (!kIsQuantised<type()> || type() == DType::kQ6_K) {
      CheckFailed(__FILE__, __LINE__, "a type that is packed in int8");  // rows_form takes another
    } else {
      static_assert(kHandlesType<type()>, "say whether panels of the type are packed in int8");
    }
  });
}

void gemm_q8_multiply(const GemmProduct& product) { multiply_tiles<Q8Tile>(product); }
void gemm_q8_offset_multiply(const GemmProduct& product) { multiply_tiles<Q8OffsetTile>(product); }
int64_t gemm_q8_multiply_registers(int64_t n) { return multiply_registers<Q8Op>(n); }

}  // namespace thermocline::avx512
