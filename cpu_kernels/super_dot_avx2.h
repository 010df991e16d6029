// Products of rows of super-blocks (Q4_K, Q5_K, Q6_K, IQ4_XS) with one vector, in integers over a
// whole block of 256 (VectorForm::kQ8Super). Scales of 32 or 16 weights are integers, and so is
// what a vector's 32 values have on top of the scale of its 256, so the product of both multiplies
// the sums of pairs, which takes them to 32 bits as well. What is left for f32 is one conversion
// per block. Included by units of AVX2 only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/octet.h"
#include "cpu_kernels/simd_avx2.h"

namespace thermocline::avx2 {

inline constexpr int kMostChunkFactor = 127;

// What goes with 256 values of a prepared vector: chunk c stands for scale * factors[c] * int8.
struct SuperFacts {
  float scale;
  int32_t unused[3];
  int16_t factors[kOctetChunks];
  int16_t sums[kOctetChunks];           // of a chunk's int8
  int16_t half_sums[2 * kOctetChunks];  // of the first halves of all chunks, then of the second
};

// A prepared vector, padded with zeros to whole blocks: the int8 of all, then the facts of all.
struct SuperVector {
  int64_t n_blocks;

  [[gnu::always_inline]] explicit inline SuperVector(int64_t n_cols)
      : n_blocks((n_cols + kOctetCols - 1) / kOctetCols) {}
  [[gnu::always_inline]] inline int64_t facts() const { return n_blocks * kOctetCols; }
  [[gnu::always_inline]] inline int64_t total() const {
    const int64_t facts_bytes = n_blocks * static_cast<int64_t>(sizeof(SuperFacts));
    return facts() + (facts_bytes + 63) / 64 * 64;
  }
};

// The factors of a block of weights, multiplied by those of the vector's chunks. Lane c of either
// half of `scales` is that of chunk c, or of its half. `offsets`, which are taken away, are the
// sums of offsets times x in units of their own; signed types have none.
struct SuperProduct {
  __m256i scales;
  float unit;
  __m256 offsets;
  __m256 offset_unit;
};

[[gnu::always_inline]] inline __m256i factors_twice(const SuperFacts& x) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x.factors)));
}

// kMostScale: the largest magnitude of a scale of weights.
template <DType kType>
struct SuperFactors;

// d, dmin and the six-bit scales and offsets: the low half of a register takes scales, the high
// half offsets. |scale * factor| <= 63 * 127.
struct PackedSuperFactors {
  static constexpr int kMostScale = 63;
  [[gnu::always_inline]] static inline SuperProduct read(const std::byte* p, const SuperFacts& x) {
    PackedBytes bytes = packed_bytes<Simd>(p);
    // General registers have time for this, vector registers do not.
    asm("" : "+r"(bytes.scales), "+r"(bytes.offsets));
    const __m128i both =
        _mm_set_epi64x(static_cast<int64_t>(bytes.offsets), static_cast<int64_t>(bytes.scales));
    const __m256i words = _mm256_mullo_epi16(_mm256_cvtepu8_epi16(both), factors_twice(x));
    const __m128i scales = _mm256_castsi256_si128(words);
    const __m128i sums = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x.sums));
    const __m128i offsets = _mm_madd_epi16(_mm256_extracti128_si256(words, 1), sums);
    const auto halves = OctetTools<Simd>::load_as<int32_t>(p);
    const __m128 units = _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(halves)), _mm_set1_ps(x.scale));
    return {_mm256_inserti128_si256(words, scales, 1), _mm_cvtss_f32(units),
            _mm256_zextps128_ps256(_mm_cvtepi32_ps(offsets)),
            _mm256_zextps128_ps256(_mm_permute_ps(units, 0x55))};
  }
};
template <>
struct SuperFactors<DType::kQ4_K> : PackedSuperFactors {};
template <>
struct SuperFactors<DType::kQ5_K> : PackedSuperFactors {};

// Scales of 16 weights, of which 32 is taken away. |scale * factor| <= 128 * 127.
template <>
struct SuperFactors<DType::kQ6_K> {
  static constexpr int kMostScale = 128;
  [[gnu::always_inline]] static inline SuperProduct read(const std::byte* p, const SuperFacts& x) {
    const __m128i first_halves =
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + q6_k::kScalesAt));
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(bytes, first_halves));
    const __m256i scales = _mm256_mullo_epi16(wide, factors_twice(x));
    const __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.half_sums));
    const auto half = OctetTools<Simd>::load_as<uint16_t>(p + q6_k::kDAt);
    const float unit = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))) * x.scale;
    return {scales, unit, _mm256_cvtepi32_ps(_mm256_madd_epi16(scales, sums)),
            _mm256_set1_ps(unit * 32.0F)};
  }
};

// Four bits of each scale, two bits of each, and 32 taken away. |scale * factor| <= 32 * 127.
template <>
struct SuperFactors<DType::kIQ4_XS> {
  static constexpr int kMostScale = 32;
  [[gnu::always_inline]] static inline SuperProduct read(const std::byte* p, const SuperFacts& x) {
    // Spread to a byte each, in general registers, which have time for it.
    uint64_t four = OctetTools<Simd>::load_as<uint32_t>(p + 4);
    four = (four | four << 16) & 0x0000ffff0000ffff;
    four = (four | four << 8) & 0x00ff00ff00ff00ff;
    four = (four | four << 4) & 0x0f0f0f0f0f0f0f0f;
    uint64_t two = OctetTools<Simd>::load_as<uint16_t>(p + 2);
    two = (two | two << 24) & 0x000000ff000000ff;
    two = (two | two << 12) & 0x000f000f000f000f;
    two = (two | two << 6) & 0x0303030303030303;
    uint64_t six = four | two << 4;
    asm("" : "+r"(six));
    const __m128i wide = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(static_cast<int64_t>(six)));
    const __m128i factors = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x.factors));
    const __m128i scales = _mm_mullo_epi16(_mm_sub_epi16(wide, _mm_set1_epi16(32)), factors);
    const auto half = OctetTools<Simd>::load_as<uint16_t>(p);
    const float unit = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))) * x.scale;
    return {_mm256_broadcastsi128_si256(scales), unit, _mm256_setzero_ps(), _mm256_setzero_ps()};
  }
};

// Keeps a value in a register.
[[gnu::always_inline]] inline __m256i keep(__m256i value) {
  asm("" : "+x"(value));
  return value;
}

// One load, which the compiler would otherwise fold into both of its uses: two loads are what a
// cycle has room for, and x takes them, too.
[[gnu::always_inline]] inline __m256i load_once(const std::byte* p) {
  return keep(OctetTools<Simd>::load(p));
}

// 32 values of x, and where the scales that they go with lie among those of a block: the same
// place for all, or one in either half.
struct SuperX {
  __m256i x;
  __m256i lane;
};
constexpr int16_t scale_lane(int chunk) {
  return static_cast<int16_t>((2 * chunk + 1) << 8 | (2 * chunk));
}

// Registers a and b of 32 weights each that come out of the same bytes: a pair, of four. x: what
// they are multiplied by.
template <DType kType>
struct SuperPairs;

// Whose registers hold a chunk each. Chunks: first(pair) and second(pair).
template <class Chunks>
struct WholeChunks {
  template <int kPair>
  [[gnu::always_inline]] static inline void x(const std::byte* x, SuperX* a, SuperX* b) {
    *a = chunk<Chunks::first(kPair)>(x);
    *b = chunk<Chunks::second(kPair)>(x);
  }

 private:
  template <int kChunk>
  [[gnu::always_inline]] static inline SuperX chunk(const std::byte* x) {
    return {load_once(x + kChunk * kQuantBlock), keep(_mm256_set1_epi16(scale_lane(kChunk)))};
  }
};

struct NibbleChunks {
  static constexpr int first(int pair) { return 2 * pair; }
  static constexpr int second(int pair) { return 2 * pair + 1; }
};
template <>
struct SuperPairs<DType::kQ4_K> : WholeChunks<NibbleChunks> {
  template <int kPair>
  [[gnu::always_inline]] static inline void read(const std::byte* p, __m256i* a, __m256i* b) {
    using Tools = OctetTools<Simd>;
    const __m256i both = load_once(p + 16 + kPair * kQuantBlock);
    *a = Tools::bits_at<0, 0>(both, 15);
    *b = Tools::bits_at<4, 0>(both, 15);
  }
};

template <>
struct SuperPairs<DType::kQ5_K> : SuperPairs<DType::kQ4_K> {
  template <int kPair>
  [[gnu::always_inline]] static inline void read(const std::byte* p, __m256i* a, __m256i* b) {
    using Tools = OctetTools<Simd>;
    SuperPairs<DType::kQ4_K>::read<kPair>(p + 32, a, b);
    const __m256i high = load_once(p + 16);
    *a = _mm256_or_si256(*a, Tools::bits_at<2 * kPair, 4>(high, 16));
    *b = _mm256_or_si256(*b, Tools::bits_at<2 * kPair + 1, 4>(high, 16));
  }
};

struct SixBitChunks {
  static constexpr int first(int pair) { return pair / 2 * 4 + pair % 2; }
  static constexpr int second(int pair) { return first(pair) + 2; }
};
template <>
struct SuperPairs<DType::kQ6_K> : WholeChunks<SixBitChunks> {
  template <int kPair>
  [[gnu::always_inline]] static inline void read(const std::byte* p, __m256i* a, __m256i* b) {
    using Tools = OctetTools<Simd>;
    constexpr int kFirst = SixBitChunks::first(kPair);
    constexpr int kSecond = SixBitChunks::second(kPair);
    const __m256i low = load_once(p + q6_k::LowAt(kFirst));
    const __m256i high = load_once(p + q6_k::HighAt(kFirst));
    *a = _mm256_or_si256(Tools::bits_at<0, 0>(low, 15),
                         Tools::bits_at<q6_k::HighShift(kFirst), 4>(high, 48));
    *b = _mm256_or_si256(Tools::bits_at<4, 0>(low, 15),
                         Tools::bits_at<q6_k::HighShift(kSecond), 4>(high, 48));
  }
};

// The low nibbles of two chunks' bytes are their first halves, the high ones their second.
template <>
struct SuperPairs<DType::kIQ4_XS> {
  template <int kPair>
  [[gnu::always_inline]] static inline void x(const std::byte* x, SuperX* a, SuperX* b) {
    *a = halves<2 * kPair>(x);
    *b = halves<2 * kPair>(x + kQuantBlock / 2);
  }
  template <int kPair>
  [[gnu::always_inline]] static inline void read(const std::byte* p, __m256i* a, __m256i* b) {
    using Tools = OctetTools<Simd>;
    const __m256i both = load_once(p + 8 + kPair * kQuantBlock);
    *a = Tools::look_up(kUnevenNibbles, Tools::bits_at<0, 0>(both, 15));
    *b = Tools::look_up(kUnevenNibbles, Tools::bits_at<4, 0>(both, 15));
  }

 private:
  template <int kChunk>
  [[gnu::always_inline]] static inline SuperX halves(const std::byte* x) {
    const auto half = [&](int chunk) __attribute__((always_inline)) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + chunk * kQuantBlock));
    };
    const __m256i lanes = _mm256_set_m128i(_mm_set1_epi16(scale_lane(kChunk + 1)),
                                           _mm_set1_epi16(scale_lane(kChunk)));
    return {keep(_mm256_set_m128i(half(kChunk + 1), half(kChunk))), keep(lanes)};
  }
};

template <DType kType>
class SuperDot {
 public:
  using Reg = __m256;
  using TypeOctet = Octet<Simd, kType>;
  using Pairs = SuperPairs<kType>;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = kOctetBytes<kType>;
  static constexpr int64_t kVectorStepBytes = kOctetCols + sizeof(SuperFacts);
  static constexpr int64_t kMostTokens = 4;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit SuperDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        facts_(reinterpret_cast<const SuperFacts*>(x_ + SuperVector(args.n_cols).facts())),
        n_steps_(args.n_cols / kOctetCols) {}

  int64_t full_steps() const { return n_steps_; }

  // A chunk of x serves all rows before the next one is loaded, or a chunk of a row all tokens.
  template <int kRows, int kTokens = 1>
  [[gnu::always_inline]] inline void step(const std::byte* const* rows, int64_t t,
                                          Reg (*sums)[2]) const {
    if constexpr (kTokens > 1) {
      static_assert(kRows == 1);
      return many<kTokens>(rows[0] + t * kStepBytes, t, sums);
    }
    const std::byte* blocks[kRows];
    __m256i scales[kRows];
    float units[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      blocks[r] = rows[r] + t * kStepBytes;
      const SuperProduct product = SuperFactors<kType>::read(blocks[r], facts_[t]);
      scales[r] = product.scales;
      units[r] = product.unit;
      take_offsets(product, &sums[r][0]);
    }
    const std::byte* x = x_ + t * kOctetCols;
    __m256i dots[kRows] = {};
    add_pair<0>(blocks, x, scales, dots);
    add_pair<1>(blocks, x, scales, dots);
    if constexpr (!kAllFit) {
      take(dots, units, sums);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) dots[r] = _mm256_setzero_si256();
    }
    add_pair<2>(blocks, x, scales, dots);
    add_pair<3>(blocks, x, scales, dots);
    take(dots, units, sums);
  }

  // Super-blocks are whole.
  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* /*rows*/, Reg (* /*sums*/)[2]) const {}

  static float total(Reg sum0, Reg /*unused*/) { return Simd::sum(sum0); }

 private:
  // A lane's sum of 32 weights has four products. With scales of eight bits and a sign only four
  // such sums fit 32 bits.
  static constexpr int64_t kMostOfChunk =
      int64_t{4} * 127 * TypeOctet::kMost * kMostChunkFactor * SuperFactors<kType>::kMostScale;
  static constexpr bool kAllFit = 8 * kMostOfChunk < (1LL << 31);
  static_assert(4 * kMostOfChunk < (1LL << 31));
  static_assert(2 * 127 * TypeOctet::kMost < (1 << 15), "a pair must fit 16 bits");

  [[gnu::always_inline]] static inline void take_offsets(const SuperProduct& product, Reg* sum) {
    if constexpr (!TypeOctet::kSigned) {
      *sum = Simd::fnma(product.offsets, product.offset_unit, *sum);
    }
  }

  template <int kTokens>
  [[gnu::always_inline]] inline void many(const std::byte* p, int64_t t, Reg (*sums)[2]) const {
    __m256i scales[kTokens];
    float units[kTokens];
    const std::byte* x[kTokens];
#pragma GCC unroll 4
    for (int token = 0; token < kTokens; ++token) {
      x[token] = x_ + token * x_stride_ + t * kOctetCols;
      const auto* facts = reinterpret_cast<const SuperFacts*>(
          reinterpret_cast<const std::byte*>(facts_ + t) + token * x_stride_);
      const SuperProduct product = SuperFactors<kType>::read(p, *facts);
      scales[token] = product.scales;
      units[token] = product.unit;
      take_offsets(product, &sums[token][0]);
    }
    __m256i dots[kTokens] = {};
    add_pair_of_all<0>(p, x, scales, dots);
    add_pair_of_all<1>(p, x, scales, dots);
    if constexpr (!kAllFit) {
      take(dots, units, sums);
#pragma GCC unroll 4
      for (int token = 0; token < kTokens; ++token) dots[token] = _mm256_setzero_si256();
    }
    add_pair_of_all<2>(p, x, scales, dots);
    add_pair_of_all<3>(p, x, scales, dots);
    take(dots, units, sums);
  }

  template <int kPair, int kTokens>
  [[gnu::always_inline]] static inline void add_pair_of_all(const std::byte* p,
                                                            const std::byte* const (&x)[kTokens],
                                                            const __m256i (&scales)[kTokens],
                                                            __m256i (&dots)[kTokens]) {
    __m256i first;
    __m256i second;
    Pairs::template read<kPair>(p, &first, &second);
#pragma GCC unroll 4
    for (int token = 0; token < kTokens; ++token) {
      SuperX a;
      SuperX b;
      Pairs::template x<kPair>(x[token], &a, &b);
      dots[token] = _mm256_add_epi32(dots[token], scaled(first, a, scales[token]));
      dots[token] = _mm256_add_epi32(dots[token], scaled(second, b, scales[token]));
    }
  }

  template <int kPair, int kRows>
  [[gnu::always_inline]] static inline void add_pair(const std::byte* const (&blocks)[kRows],
                                                     const std::byte* x,
                                                     const __m256i (&scales)[kRows],
                                                     __m256i (&dots)[kRows]) {
    SuperX first;
    SuperX second;
    Pairs::template x<kPair>(x, &first, &second);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      __m256i a;
      __m256i b;
      Pairs::template read<kPair>(blocks[r], &a, &b);
      dots[r] = _mm256_add_epi32(dots[r], scaled(a, first, scales[r]));
      dots[r] = _mm256_add_epi32(dots[r], scaled(b, second, scales[r]));
    }
  }

  // Signed bytes, |w| <= 127, are multiplied as |w| and x with the sign of w.
  [[gnu::always_inline]] static inline __m256i scaled(__m256i w, const SuperX& x, __m256i scales) {
    const __m256i scale = _mm256_shuffle_epi8(scales, x.lane);
    if constexpr (TypeOctet::kSigned) {
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x.x, w));
      return _mm256_madd_epi16(pairs, scale);
    } else {
      return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x.x), scale);
    }
  }

  template <int kRows>
  [[gnu::always_inline]] static inline void take(const __m256i (&dots)[kRows],
                                                 const float (&units)[kRows], Reg (*sums)[2]) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = Simd::fma(_mm256_cvtepi32_ps(dots[r]), Simd::set1(units[r]), sums[r][0]);
    }
  }

  const std::byte* x_;
  int64_t x_stride_;
  const SuperFacts* facts_;
  int64_t n_steps_;
};

}  // namespace thermocline::avx2
