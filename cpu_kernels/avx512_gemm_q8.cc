// Multiplies batches of tokens by rows of quantised types, in int8 through VNNI.
//
// Bytes of a panel are unsigned as in avx512_vnni.cc: Q8_0 as w + 128, Q4_0 as 16 * (w + 8) with
// its scale divided by 16, so one kernel serves both and owes 128 * sum(x), which the integer sums
// start from. Q4_1's are its nibbles, and its kernel adds offsets times sums of x. Types that are
// read as octets go through memory; those that have a scale for each 16 weights have blocks of 16.
#include <type_traits>

#include "cpu_kernels/avx512.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/gemm_integer_avx512.h"
#include "cpu_kernels/octet_unpack.h"
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
struct Q8HalvesOp : Q8OffsetOp {
  static constexpr int64_t kBlock = kQuantBlock / 2;
  static constexpr int kWords = kQuantBlock / 2 / 4;
  static constexpr int kUnroll = 4;
};
using Q8Tile = IntegerTile<Q8Op>;
using Q8OffsetTile = IntegerTile<Q8OffsetOp>;
static_assert(Q8OffsetTile::kInputStepBytes == Q8Tile::kInputStepBytes);

// Q4_0 takes whole bytes here.
template <DType kType>
inline constexpr GemmForm kFormOf = kType == DType::kQ4_0 ? GemmForm::kQ8 : integer_form(kType);
template <DType kType>
using OpOf = std::conditional_t<
    kFormOf<kType> == GemmForm::kQ8, Q8Op,
    std::conditional_t<kFormOf<kType> == GemmForm::kQ8Halves, Q8HalvesOp, Q8OffsetOp>>;
template <DType kType>
using TileOf = IntegerTile<OpOf<kType>>;
constexpr int kWords = Q8Op::kWords;
// The bytes of a block, as a mask.
template <class Op>
constexpr __mmask32 kBlockBytes = Op::kBlock == 32 ? 0xffffffffU : (1U << Op::kBlock % 32) - 1;

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
  constexpr bool kOffsets = OpOf<kType>::kOffsets;
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

// Packs columns [begin, end) of rows [0, n) of 16 as one half of a panel, octet by octet.
template <DType kType>
void pack_octets(const std::byte* w, int64_t stride, int64_t n, int64_t begin, int64_t end,
                 LinePrefetcher& ahead, std::byte* out) {
  using Op = OpOf<kType>;
  constexpr int kLines = static_cast<int>((16 * kOctetBytes<kType> + 63) / 64);
  constexpr int kEach = kQuantBlock / Op::kBlock;  // blocks of a chunk
  alignas(64) uint8_t bytes[16][kOctetCols] = {};
  OctetFactorArrays factors[16] = {};
  while (begin < end) {
    const int64_t octet = begin / kOctetCols;
    const int64_t octet_end = (octet + 1) * kOctetCols < end ? (octet + 1) * kOctetCols : end;
    const int64_t first = begin % kOctetCols / kQuantBlock;
    const int64_t last = first + (octet_end - begin) / kQuantBlock;
    for (int line = 0; line < kLines; ++line) ahead.step();
    for (int64_t r = 0; r < n; ++r) {
      octet_to_bytes<Simd, kType>(w + r * stride + octet * kOctetBytes<kType>, first, last,
                                  bytes[r], &factors[r]);
    }
    const RowsOf16 rows(reinterpret_cast<const std::byte*>(bytes), kOctetCols);
    for (int64_t b = first * kEach; b < last * kEach; ++b, out += TileOf<kType>::kPanelStepBytes) {
#pragma GCC unroll 2
      for (int part = 0; part < Op::kWords / 4; ++part) {
        __m512i words[4];
        transpose_words(rows, b * Op::kBlock + part * 16, words);
        for (int c = 0; c < 4; ++c) _mm512_store_si512(out + (part * 4 + c) * 128, words[c]);
      }
      float scales[16];
      float offsets[16];
      for (int r = 0; r < 16; ++r) {
        scales[r] = factors[r].scales[b];
        offsets[r] = factors[r].offsets[b];
      }
      _mm512_store_ps(out + Op::kWords * 128, _mm512_loadu_ps(scales));
      if constexpr (Op::kOffsets) {
        _mm512_store_ps(out + Op::kWords * 128 + 128, _mm512_loadu_ps(offsets));
      }
    }
    begin = octet_end;
  }
}

template <DType kType>
void pack_panels(const GemmPackArgs& args) {
  const int64_t n_blocks = (args.end - args.begin) / OpOf<kType>::kBlock;
  std::byte* panel = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += kGemmPanel) {
    for (int64_t group = 0; group < 2; ++group) {
      const int64_t left = args.n_rows - r - group * 16;
      const int64_t n = left < 0 ? 0 : left < 16 ? left : 16;
      const std::byte* rows = args.w;
      if (n > 0) rows += (r + group * 16) * args.row_stride_bytes;
      // Scales of the second group lie 64 bytes after those of the first, like its words.
      std::byte* half = panel + group * 64;
      if constexpr (kIsOctets<kType>) {
        pack_octets<kType>(rows, args.row_stride_bytes, n, args.begin, args.end, ahead, half);
      } else {
        rows += args.begin / kQuantBlock * kTypeBlockBytes<kType>;
        pack_group<kType>(rows, args.row_stride_bytes, n, n_blocks, ahead, half);
      }
    }
    panel += n_blocks * TileOf<kType>::kPanelStepBytes;
  }
}

// With kOffsets a block's sum goes where its start would.
template <class Op>
void prepare_tiles(const GemmPrepareArgs& args) {
  using Tile = IntegerTile<Op>;
  const Tiles tiles(args.n_tokens, Tile::kTileTokens);
  const int64_t n_blocks = args.k / Op::kBlock;
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    const int64_t step = size * Tile::kInputStepBytes;
    std::byte* out = args.out + begin * n_blocks * Tile::kInputStepBytes;
    for (int64_t b = 0; b < args.k / kQuantBlock; ++b) {
      for (int64_t t = 0; t < size; ++t) {
        alignas(32) int8_t q[kQuantBlock];
        float scale = 0.0F;
        const float* const x = args.x + (begin + t) * args.k + b * kQuantBlock;
        quantise_activations<Simd>(x, args.plane, q, &scale);
        auto* words = out + t * 4;
        for (int at = 0; at < kQuantBlock; at += Op::kBlock, words += step) {
          const __m256i sums =
              _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1),
                                  _mm256_maskz_loadu_epi8(kBlockBytes<Op>, q + at));
          const __m512i wide = _mm512_inserti64x4(_mm512_setzero_si512(), sums, 0);
          const int32_t sum = _mm512_reduce_add_epi32(wide);
          const int32_t start = -128 * sum;
          const float scaled_sum = scale * static_cast<float>(sum);
          for (int i = 0; i < Op::kWords; ++i) std::memcpy(words + i * size * 4, q + at + i * 4, 4);
          const void* fact = Op::kOffsets ? static_cast<const void*>(&scaled_sum) : &start;
          std::memcpy(words + Op::kWords * size * 4, fact, 4);
          std::memcpy(words + (Op::kWords + 1) * size * 4, &scale, 4);
        }
      }
      out += kQuantBlock / Op::kBlock * step;
    }
  }
}

template <class Op>
int64_t input_bytes_of(int64_t n_tokens, int64_t k) {
  return n_tokens * (k / Op::kBlock) * IntegerTile<Op>::kInputStepBytes;
}
template <class Op>
int64_t panel_bytes_of(int64_t k) {
  return k / Op::kBlock * IntegerTile<Op>::kPanelStepBytes;
}

}  // namespace

int64_t gemm_q8_tile_tokens() { return Q8Tile::kTileTokens; }
int64_t gemm_q8_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<Q8Op>(n_tokens, k);
}
int64_t gemm_q8_halves_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<Q8HalvesOp>(n_tokens, k);
}
int64_t gemm_q8_panel_bytes(int64_t k) { return panel_bytes_of<Q8Op>(k); }
int64_t gemm_q8_offset_panel_bytes(int64_t k) { return panel_bytes_of<Q8OffsetOp>(k); }
int64_t gemm_q8_halves_panel_bytes(int64_t k) { return panel_bytes_of<Q8HalvesOp>(k); }

void gemm_q8_prepare(const GemmPrepareArgs& args) { prepare_tiles<Q8Op>(args); }
void gemm_q8_offset_prepare(const GemmPrepareArgs& args) { prepare_tiles<Q8OffsetOp>(args); }
void gemm_q8_halves_prepare(const GemmPrepareArgs& args) { prepare_tiles<Q8HalvesOp>(args); }

void gemm_q8_pack_rows(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (kIsQuantised<type()>) {
      pack_panels<type()>(args);
    } else {
      CheckFailed(__FILE__, __LINE__, "a type that is packed in int8");  // rows_form takes another
    }
  });
}

void gemm_q8_multiply(const GemmProduct& product) { multiply_tiles<Q8Tile>(product); }
void gemm_q8_offset_multiply(const GemmProduct& product) { multiply_tiles<Q8OffsetTile>(product); }
void gemm_q8_halves_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<Q8HalvesOp>>(product);
}
int64_t gemm_q8_multiply_registers(int64_t n) { return multiply_registers<Q8Op>(n); }

}  // namespace thermocline::avx512
