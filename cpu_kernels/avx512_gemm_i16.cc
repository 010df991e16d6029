// Multiplies batches of tokens by F16 weights in fixed point of 16 bits through VNNI: as many
// products an instruction as bf16, as precise as f16.
//
// A block is 128 values along k with one f32 scale. Weights are scaled to integers of norm 32760 a
// block, activations to norm 65500 and at most 32767, and rounded (which adds at most 5.7 to a
// norm). No sum of their products leaves 31 bits then: it is at most the product of the norms
// (Cauchy and Schwarz), so a block's sum is exact. What rounding takes from a block of values
// spread like a normal distribution is 1e-4 of it (weights) and 5e-5 (activations); f16 itself
// rounds away 2e-4. Outliers do not change that by much: the error stays that share of the norm.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/gemm_float_avx512.h"
#include "cpu_kernels/gemm_integer_avx512.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

constexpr int64_t kBlock = kGemmBlock;
constexpr float kWeightNorm = 32760.0F;
constexpr float kInputNorm = 65500.0F;
constexpr float kInputMost = 32767.0F;
static_assert(kBlock <= 128 && 32766LL * 65506 < 1LL << 31);

struct I16Op {
  using Sum = __m512i;
  static constexpr int kProducts = 32;
  static constexpr int kTileTokens = 7;
  static constexpr int64_t kBlock = kGemmBlock;
  static constexpr int kWords = kGemmBlock / 2;
  static constexpr bool kStarts = false;
  static constexpr bool kOffsets = false;
  static constexpr int kUnroll = 4;
  [[gnu::always_inline]] static inline __m512i multiply_add(__m512i sum, __m512i w, __m512i x) {
    return _mm512_dpwssd_epi32(sum, w, x);
  }
};
using I16Tile = IntegerTile<I16Op>;
constexpr int kWords = I16Op::kWords;

// The scales of 16 blocks, and what their values are multiplied with to become integers.
struct Scales {
  __m512 scale;
  __m512 inverse;

  // Makes scales that give the integers a norm of `target`. Infinities and NaN make the block's
  // sums NaN.
  Scales(__m512 squares, float target) {
    const __m512 norm = _mm512_sqrt_ps(squares);
    const __mmask16 finite = _mm512_cmp_ps_mask(norm, _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
    const __mmask16 nonzero = _mm512_cmp_ps_mask(norm, _mm512_setzero_ps(), _CMP_GT_OQ) & finite;
    scale = _mm512_mul_ps(norm, _mm512_set1_ps(1.0F / target));
    scale = _mm512_mask_blend_ps(finite, _mm512_set1_ps(__builtin_nanf("")), scale);
    inverse = _mm512_maskz_div_ps(nonzero, _mm512_set1_ps(target), norm);
  }
};

// Rows are taken in an order in which two registers of f32 pack into one of 16 bits in the order of
// the rows.
constexpr int kRowAt[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};

// Loads words of two f16 of 16 rows, at out + 128 i in the order of kRowAt, as f32. Each register
// holds eight rows.
[[gnu::always_inline]] inline void load_pairs(const std::byte* p, __m512* pairs) {
  pairs[0] = Simd::load_f16(p);
  pairs[1] = Simd::load_f16(p + 32);
}

// Packs a block of 16 rows, whose words are loaded by load(row, word), as one half of a panel's
// step.
template <class Load>
[[gnu::always_inline]] inline void pack_block(std::byte* out, const Load& load) {
  __m512 squares[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
#pragma GCC unroll 1
  for (int first = 0; first < kWords; first += 16) {
    __m512i v[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) v[r] = load(kRowAt[r], first);
    transpose_16(v);
#pragma GCC unroll 16
    for (int w = 0; w < 16; ++w) {
      _mm512_store_si512(out + (first + w) * 128, v[w]);
      __m512 pairs[2];
      load_pairs(out + (first + w) * 128, pairs);
      squares[0] = _mm512_fmadd_ps(pairs[0], pairs[0], squares[0]);
      squares[1] = _mm512_fmadd_ps(pairs[1], pairs[1], squares[1]);
    }
  }
  // A row lies in two lanes, so its sum is the sum of both.
  Scales scales[2] = {{_mm512_add_ps(squares[0], Simd::swap_neighbours(squares[0])), kWeightNorm},
                      {_mm512_add_ps(squares[1], Simd::swap_neighbours(squares[1])), kWeightNorm}};
#pragma GCC unroll 4
  for (int i = 0; i < kWords; ++i) {
    std::byte* p = out + i * 128;
    __m512 pairs[2];
    load_pairs(p, pairs);
    const __m512i integers =
        _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(pairs[0], scales[0].inverse)),
                           _mm512_cvtps_epi32(_mm512_mul_ps(pairs[1], scales[1].inverse)));
    _mm512_store_si512(p, integers);
  }
  const __m512i in_order =
      _mm512_setr_epi32(0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30);
  _mm512_store_ps(out + kWords * 128,
                  _mm512_permutex2var_ps(scales[0].scale, in_order, scales[1].scale));
}

constexpr int kBlockLines = 16 * kBlock * 2 / 64;  // cache lines of a block of 16 rows

// Packs rows [0, n) of 16, columns [0, k), as one half of a panel; the other rows become zeros.
void pack_group(const std::byte* w, int64_t stride, int64_t n, int64_t k, LinePrefetcher& ahead,
                std::byte* out) {
  for (int64_t col = 0; col < k; col += kBlock, out += I16Tile::kPanelStepBytes) {
    for (int line = 0; line < kBlockLines; ++line) ahead.step();
    const std::byte* p = w + col * 2;
    if (n == 16 && k - col >= kBlock) {
      pack_block(out,
                 [&](int r, int word) { return _mm512_loadu_si512(p + r * stride + word * 4); });
      continue;
    }
    pack_block(out, [&](int r, int word) {
      const int64_t left = r < n ? k - col - word * 2 : 0;
      const auto some = left >= 32 ? ~0U : left > 0 ? (1U << left) - 1U : 0U;
      return _mm512_maskz_loadu_epi16(some, some != 0 ? p + r * stride + word * 4 : w);
    });
  }
}

// Packs rows [0, n_rows) of at most a block, 16 columns each at w, as one half of a panel's step:
// outputs are columns. load(row) gives f32.
template <class Load>
[[gnu::always_inline]] inline void pack_column_block(int64_t n_rows, std::byte* out,
                                                     const Load& load) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t r = 0; r < n_rows; ++r) {
    const __m512 w = load(r);
    squares = _mm512_fmadd_ps(w, w, squares);
  }
  const Scales scales(squares, kWeightNorm);
  const auto integers = [&](int64_t r) {
    if (r >= n_rows) return _mm512_setzero_si512();
    return _mm512_cvtps_epi32(_mm512_mul_ps(load(r), scales.inverse));
  };
  for (int i = 0; i < kWords; ++i) {
    const __m512i first = _mm512_and_si512(integers(2 * i), _mm512_set1_epi32(0xffff));
    const __m512i second = _mm512_slli_epi32(integers(2 * i + 1), 16);
    _mm512_store_si512(out + i * 128, _mm512_or_si512(first, second));
  }
  _mm512_store_ps(out + kWords * 128, scales.scale);
}

// Rounds a token's block, with zeros beyond the first n. Returns its scale.
[[gnu::always_inline]] inline float round_input(const float* x, int64_t n, __m512i* words) {
  constexpr int kRegisters = kBlock / 16;
  __m512 values[kRegisters];
  __m512i top = _mm512_setzero_si512();
  for (int v = 0; v < kRegisters; ++v) {
    const int64_t left = n - v * 16;
    values[v] = Simd::load_n(x + v * 16, left >= 16 ? 16 : left > 0 ? left : 0);
    top = _mm512_max_epu32(top, _mm512_castps_si512(_mm512_abs_ps(values[v])));
  }
  const uint32_t most = _mm512_reduce_max_epu32(top);
  float largest;
  std::memcpy(&largest, &most, sizeof(largest));
  const bool finite = largest < __builtin_inff();  // false for NaN, too
  if (!finite || largest < kSmallestQ8Block) {
    for (int v = 0; v < kRegisters / 2; ++v) words[v] = _mm512_setzero_si512();
    return finite ? 0.0F : __builtin_nanf("");
  }
  // Values are divided by the largest first, since squares of large values would leave f32.
  const float inverse_largest = 1.0F / largest;
  __m512 squares = _mm512_setzero_ps();
  for (const __m512 value : values) {
    const __m512 scaled = _mm512_mul_ps(value, _mm512_set1_ps(inverse_largest));
    squares = _mm512_fmadd_ps(scaled, scaled, squares);
  }
  const float norm = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(Simd::sum(squares))));
  const float factor = kInputNorm / norm < kInputMost ? kInputNorm / norm : kInputMost;
  const __m512 inverse = _mm512_set1_ps(factor * inverse_largest);
  const __m512i in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  for (int v = 0; v < kRegisters / 2; ++v) {
    const __m512i both =
        _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(values[2 * v], inverse)),
                           _mm512_cvtps_epi32(_mm512_mul_ps(values[2 * v + 1], inverse)));
    words[v] = _mm512_permutexvar_epi64(in_order, both);
  }
  return largest / factor;
}

int64_t blocks(int64_t k) { return (k + kBlock - 1) / kBlock; }

}  // namespace

int64_t gemm_i16_tile_tokens() { return I16Tile::kTileTokens; }
int64_t gemm_i16_input_bytes(int64_t n_tokens, int64_t k) {
  return n_tokens * blocks(k) * I16Tile::kInputStepBytes;
}
int64_t gemm_i16_panel_bytes(int64_t k) { return blocks(k) * I16Tile::kPanelStepBytes; }

void gemm_i16_prepare(const GemmPrepareArgs& args) {
  const Tiles tiles(args.n_tokens, I16Tile::kTileTokens);
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    const __mmask16 tokens = Simd::first(size);
    std::byte* out = args.out + begin * blocks(args.k) * I16Tile::kInputStepBytes;
    for (int64_t col = 0; col < args.k; col += kBlock) {
      __m512i words[kWords / 16][16] = {};
      float scales[16];
      for (int64_t t = 0; t < size; ++t) {
        __m512i block[kWords / 16];
        scales[t] = round_input(args.x + (begin + t) * args.k + col, args.k - col, block);
        for (int i = 0; i < kWords / 16; ++i) words[i][t] = block[i];
      }
      for (auto& square : words) {
        transpose_16(square);
        for (const __m512i& word : square) {
          _mm512_mask_storeu_epi32(out, tokens, word);
          out += size * 4;
        }
      }
      std::memcpy(out, scales, static_cast<size_t>(size) * 4);
      out += size * 4;
    }
  }
}

void gemm_i16_pack_rows(DType dtype, const GemmPackArgs& args) {
  if (dtype != DType::kF16) CheckFailed(__FILE__, __LINE__, "f16 rows");
  const int64_t k = args.end - args.begin;
  const std::byte* w = args.w + args.begin * 2;
  std::byte* panel = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += kGemmPanel, panel += gemm_i16_panel_bytes(k)) {
    for (int64_t group = 0; group < 2; ++group) {
      const int64_t left = args.n_rows - r - group * 16;
      const int64_t n = left < 0 ? 0 : left < 16 ? left : 16;
      const std::byte* rows = n > 0 ? w + (r + group * 16) * args.row_stride_bytes : w;
      pack_group(rows, args.row_stride_bytes, n, k, ahead, panel + group * 64);
    }
  }
}

void gemm_i16_pack_columns(DType dtype, const GemmPackArgs& args) {
  if (dtype != DType::kF16) CheckFailed(__FILE__, __LINE__, "f16 columns");
  const int64_t panel_bytes = gemm_i16_panel_bytes(args.n_rows);
  for (int64_t row = 0; row < args.n_rows; row += kBlock) {
    const int64_t n = args.n_rows - row < kBlock ? args.n_rows - row : kBlock;
    std::byte* step = args.panels + row / kBlock * I16Tile::kPanelStepBytes;
    for (int64_t col = args.begin; col < args.end; col += 16) {
      const std::byte* w = args.w + row * args.row_stride_bytes + col * 2;
      const int64_t left = args.end - col < 16 ? args.end - col : 16;
      const int64_t at = col - args.begin;
      std::byte* out = step + at / kGemmPanel * panel_bytes + at % kGemmPanel * 4;
      for (int64_t r = 0; r < n; ++r) {  // the same columns of the rows after these
        _mm_prefetch(reinterpret_cast<const char*>(w + (n + r) * args.row_stride_bytes),
                     _MM_HINT_T0);
      }
      pack_column_block(n, out, [&](int64_t r) {
        const std::byte* p = w + r * args.row_stride_bytes;
        return left == 16 ? Simd::load_f16(p) : Simd::load_f16_n(p, left);
      });
    }
  }
  // Fills a panel's second half where no column falls into it.
  const int64_t columns = (args.end - args.begin) % kGemmPanel;
  if (columns == 0 || columns > 16) return;
  std::byte* half = args.panels + (args.end - args.begin) / kGemmPanel * panel_bytes + 64;
  for (int64_t row = 0; row < args.n_rows; row += kBlock, half += I16Tile::kPanelStepBytes) {
    pack_column_block(0, half, [&](int64_t) { return _mm512_setzero_ps(); });
  }
}

void gemm_i16_multiply(const GemmProduct& product) { multiply_tiles<I16Tile>(product); }
int64_t gemm_i16_multiply_registers(int64_t n) { return multiply_registers<I16Op>(n); }

}  // namespace thermocline::avx512
