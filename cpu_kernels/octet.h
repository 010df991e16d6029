// How a vector unit reads the quantised types that have many forms: as octets, eight chunks of 32
// columns, which are one block of 256 or eight blocks of 32. A weight is
//
//   scale * byte + offset
//
// with an unsigned byte, and a scale and an offset for each chunk or for each half of one. What a
// type takes away from its integers (16 in Q5_0) is part of the offset: the sum is exact, since the
// weight is. Types whose bytes fill their range (IQ4_NL) have signed ones instead and no offset.
//
// An Octet<V, kType> at p has
//   kHalves        a scale of its own for each 16 columns
//   kSigned        bytes are signed, from -127 to 127; else they are unsigned, up to kMost
//   bytes<c>()     the 32 of chunk c, in order
//   factors()      all scales and offsets
// It reads nothing but its blocks. Included by units that are compiled for AVX2 or more; V is there
// for the names.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/core/dtype.h"
#include "runtime/core/q6_k_block.h"
#include "runtime/core/quant_values.h"
#include "runtime/core/weight_chunk.h"

namespace thermocline {

inline constexpr int kOctetChunks = 8;
inline constexpr int64_t kOctetCols = kOctetChunks * kQuantBlock;

// Scales and offsets of an octet's chunks, in order; where halves have their own, those of the
// first four chunks, then the others'.
template <bool kHalves>
struct OctetFactors {
  static constexpr int kRegs = kHalves ? 2 : 1;
  __m256 scales[kRegs];
  __m256 offsets[kRegs];
};

// Whether Octet describes the type. The others have code of their own.
template <DType kType>
inline constexpr bool kIsOctets =
    kIsQuantised<kType>&& kType != DType::kQ8_0&& kType != DType::kQ4_0&& kType != DType::kQ4_1;

template <DType kType>
inline constexpr int64_t kOctetBytes = kOctetCols / kTypeBlockElems<kType>* kTypeBlockBytes<kType>;

// What a type takes away from its integers, where that makes up its offsets: a weight is
// scale / times * (times * byte - centre), which is the same number.
struct OctetCentre {
  int centre = 0;  // 0: offsets are others, or there are none
  int times = 1;
};
constexpr OctetCentre octet_centre(DType type) {
  switch (type) {
    case DType::kQ6_K:
      return {.centre = 32};
    case DType::kQ5_0:
    case DType::kMXFP4:
      return {.centre = 16};
    case DType::kQ3_K:
      return {.centre = 4};
    case DType::kTQ2_0:
      return {.centre = 1};
    case DType::kS2_0:
      return {.centre = 3, .times = 2};
    case DType::kS3_0:
      return {.centre = 7, .times = 2};
    default:
      return {};
  }
}

template <class V>
struct OctetTools {
  [[gnu::always_inline]] static inline __m256i load(const std::byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <class T>
  [[gnu::always_inline]] static inline T load_as(const std::byte* p) {
    T value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }
  [[gnu::always_inline]] static inline __m256 half_everywhere(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_set1_epi16(load_as<int16_t>(p)));
  }
  // The f16 of eight blocks.
  template <int64_t kStride>
  [[gnu::always_inline]] static inline __m256 halves_of(const std::byte* p) {
    return _mm256_cvtph_ps(
        _mm_setr_epi16(load_as<int16_t>(p), load_as<int16_t>(p + kStride),
                       load_as<int16_t>(p + 2 * kStride), load_as<int16_t>(p + 3 * kStride),
                       load_as<int16_t>(p + 4 * kStride), load_as<int16_t>(p + 5 * kStride),
                       load_as<int16_t>(p + 6 * kStride), load_as<int16_t>(p + 7 * kStride)));
  }
  // 16 bytes of nibbles: the low ones, then the high ones.
  [[gnu::always_inline]] static inline __m256i nibbles(const std::byte* p) {
    const __m256i twice =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i shifts = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    return _mm256_and_si256(_mm256_srlv_epi32(twice, shifts), _mm256_set1_epi8(15));
  }
  // Bits kFrom ... of each byte, as many as the mask has, at its place.
  template <int kFrom, int kTo>
  [[gnu::always_inline]] static inline __m256i bits_at(__m256i bytes, int mask) {
    __m256i moved = bytes;
    if constexpr (kFrom > kTo) moved = _mm256_srli_epi16(bytes, kFrom - kTo);
    if constexpr (kFrom < kTo) moved = _mm256_slli_epi16(bytes, kTo - kFrom);
    return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask)));
  }
  // Bit i of 32 becomes `value` in byte i.
  [[gnu::always_inline]] static inline __m256i spread_bits(const std::byte* p, int value) {
    const __m256i byte_of =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    const __m256i copies = _mm256_shuffle_epi8(_mm256_set1_epi32(load_as<int32_t>(p)), byte_of);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(copies, bit_of), bit_of);
    return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
  }
  // Eight bytes of pairs: bits 0 and 1 of all, then bits 2 and 3, ....
  [[gnu::always_inline]] static inline __m256i spread_pairs(const std::byte* p) {
    const __m256i copies = _mm256_set1_epi64x(load_as<int64_t>(p));
    const __m256i moved = _mm256_srlv_epi64(copies, _mm256_setr_epi64x(0, 2, 4, 6));
    return _mm256_and_si256(moved, _mm256_set1_epi8(3));
  }
  [[gnu::always_inline]] static inline __m256i look_up(const int8_t* values, __m256i nibbles) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(sixteen), nibbles);
  }
  [[gnu::always_inline]] static inline __m256 bytes_to_floats(uint64_t eight) {
    const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(eight));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
  }
  [[gnu::always_inline]] static inline __m256 times(__m256 x, float factor) {
    return _mm256_mul_ps(x, _mm256_set1_ps(factor));
  }
};

template <class V, DType kType>
struct Octet {
  static_assert(kHandlesType<kType>, "say how an octet of the type is read");
};

// The types of 32: blocks lie end to end.
template <class V, DType kType>
struct SmallBlocks {
  static constexpr bool kHalves = false;
  static constexpr bool kSigned = false;
  using Tools = OctetTools<V>;
  using Factors = OctetFactors<false>;
  static constexpr int64_t kBlockBytes = kTypeBlockBytes<kType>;
  const std::byte* p;

  template <int kChunk>
  const std::byte* block() const {
    return p + kChunk * kBlockBytes;
  }
};

template <class V>
struct Octet<V, DType::kQ5_0> : SmallBlocks<V, DType::kQ5_0> {
  using Base = SmallBlocks<V, DType::kQ5_0>;
  using Tools = typename Base::Tools;
  static constexpr int kMost = 31;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const std::byte* block = Base::template block<kChunk>();
    return _mm256_or_si256(Tools::nibbles(block + 6), Tools::spread_bits(block + 2, 16));
  }
  [[gnu::always_inline]] inline typename Base::Factors factors() const {
    const __m256 d = Tools::template halves_of<Base::kBlockBytes>(Base::p);
    return {{d}, {Tools::times(d, -16.0F)}};
  }
};

template <class V>
struct Octet<V, DType::kQ5_1> : SmallBlocks<V, DType::kQ5_1> {
  using Base = SmallBlocks<V, DType::kQ5_1>;
  using Tools = typename Base::Tools;
  static constexpr int kMost = 31;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const std::byte* block = Base::template block<kChunk>();
    return _mm256_or_si256(Tools::nibbles(block + 8), Tools::spread_bits(block + 4, 16));
  }
  [[gnu::always_inline]] inline typename Base::Factors factors() const {
    return {{Tools::template halves_of<Base::kBlockBytes>(Base::p)},
            {Tools::template halves_of<Base::kBlockBytes>(Base::p + 2)}};
  }
};

template <class V>
struct Octet<V, DType::kIQ4_NL> : SmallBlocks<V, DType::kIQ4_NL> {
  using Base = SmallBlocks<V, DType::kIQ4_NL>;
  using Tools = typename Base::Tools;
  static constexpr bool kSigned = true;
  static constexpr int kMost = 127;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    return Tools::look_up(kUnevenNibbles, Tools::nibbles(Base::template block<kChunk>() + 2));
  }
  [[gnu::always_inline]] inline typename Base::Factors factors() const {
    return {{Tools::template halves_of<Base::kBlockBytes>(Base::p)}, {}};
  }
};

// The floats of four bits, doubled, from -12 to 12, are bytes from 4 on.
template <class V>
struct Octet<V, DType::kMXFP4> : SmallBlocks<V, DType::kMXFP4> {
  using Base = SmallBlocks<V, DType::kMXFP4>;
  using Tools = typename Base::Tools;
  static constexpr int kMost = 28;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i nibbles = Tools::nibbles(Base::template block<kChunk>() + 1);
    return _mm256_add_epi8(Tools::look_up(kFloatNibbles, nibbles), _mm256_set1_epi8(16));
  }
  // 2^(e - 128): the two smallest are subnormal.
  [[gnu::always_inline]] inline typename Base::Factors factors() const {
    uint64_t eight = 0;
    for (int b = 0; b < kOctetChunks; ++b) {
      eight |= std::to_integer<uint64_t>(Base::p[b * Base::kBlockBytes]) << (8 * b);
    }
    const __m256i e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(eight)));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    const __m256 scales = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small));
    return {{scales}, {Tools::times(scales, -16.0F)}};
  }
};

// Six-bit scales and offsets of eight chunks in 12 bytes (runtime/core/weight_chunk.cc), as bytes.
struct PackedBytes {
  uint64_t scales;
  uint64_t offsets;
};
// block: d, dmin, the 12 bytes.
template <class V>
[[gnu::always_inline]] inline PackedBytes packed_bytes(const std::byte* block) {
  using Tools = OctetTools<V>;
  const auto first = Tools::template load_as<uint32_t>(block + 4);
  const auto second = Tools::template load_as<uint32_t>(block + 8);
  const auto third = Tools::template load_as<uint32_t>(block + 12);
  const uint64_t high_scales = (third & 0x0f0f0f0f) | (first >> 2 & 0x30303030);
  const uint64_t high_offsets = (third >> 4 & 0x0f0f0f0f) | (second >> 2 & 0x30303030);
  return {(first & 0x3f3f3f3f) | high_scales << 32, (second & 0x3f3f3f3f) | high_offsets << 32};
}

template <class V>
struct PackedFactors {
  using Tools = OctetTools<V>;
  [[gnu::always_inline]] static inline OctetFactors<false> read(const std::byte* block) {
    const PackedBytes bytes = packed_bytes<V>(block);
    const __m256 scales = Tools::bytes_to_floats(bytes.scales);
    const __m256 offsets = Tools::bytes_to_floats(bytes.offsets);
    const __m256 d = Tools::half_everywhere(block);
    const __m256 dmin = Tools::half_everywhere(block + 2);
    return {{_mm256_mul_ps(scales, d)},
            {_mm256_mul_ps(offsets, _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0F)))}};
  }
};

template <class V>
struct Octet<V, DType::kQ4_K> {
  static constexpr bool kHalves = false;
  static constexpr bool kSigned = false;
  static constexpr int kMost = 15;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i pair = Tools::load(p + 16 + kChunk / 2 * kQuantBlock);
    return Tools::template bits_at<kChunk % 2 * 4, 0>(pair, 15);
  }
  [[gnu::always_inline]] inline OctetFactors<false> factors() const {
    return PackedFactors<V>::read(p);
  }
};

template <class V>
struct Octet<V, DType::kQ5_K> {
  static constexpr bool kHalves = false;
  static constexpr bool kSigned = false;
  static constexpr int kMost = 31;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i pair = Tools::load(p + 48 + kChunk / 2 * kQuantBlock);
    return _mm256_or_si256(Tools::template bits_at<kChunk % 2 * 4, 0>(pair, 15),
                           Tools::template bits_at<kChunk, 4>(Tools::load(p + 16), 16));
  }
  [[gnu::always_inline]] inline OctetFactors<false> factors() const {
    return PackedFactors<V>::read(p);
  }
};

template <class V>
struct Octet<V, DType::kQ6_K> {
  static constexpr bool kHalves = true;
  static constexpr bool kSigned = false;
  static constexpr int kMost = 63;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i low = Tools::load(p + q6_k::LowAt(kChunk));
    const __m256i high = Tools::load(p + q6_k::HighAt(kChunk));
    return _mm256_or_si256(Tools::template bits_at<q6_k::LowShift(kChunk), 0>(low, 15),
                           Tools::template bits_at<q6_k::HighShift(kChunk), 4>(high, 48));
  }
  [[gnu::always_inline]] inline OctetFactors<true> factors() const {
    OctetFactors<true> out;
    const __m256 d = Tools::half_everywhere(p + q6_k::kDAt);
    for (int i = 0; i < 2; ++i) {
      const auto eight = Tools::template load_as<int64_t>(p + q6_k::kScalesAt + 8 * i);
      const __m256i scales = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight));
      out.scales[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(scales), d);
      out.offsets[i] = Tools::times(out.scales[i], -32.0F);
    }
    return out;
  }
};

template <class V>
struct Octet<V, DType::kQ2_K> {
  static constexpr bool kHalves = true;
  static constexpr bool kSigned = false;
  static constexpr int kMost = 3;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i pairs = Tools::load(p + 16 + kChunk / 4 * kQuantBlock);
    return Tools::template bits_at<kChunk % 4 * 2, 0>(pairs, 3);
  }
  [[gnu::always_inline]] inline OctetFactors<true> factors() const {
    OctetFactors<true> out;
    const __m256 d = Tools::half_everywhere(p + 80);
    const __m256 minus_dmin = _mm256_xor_ps(Tools::half_everywhere(p + 82), _mm256_set1_ps(-0.0F));
    for (int i = 0; i < 2; ++i) {
      const auto both = Tools::template load_as<uint64_t>(p + 8 * i);
      constexpr uint64_t kLow = 0x0f0f0f0f0f0f0f0f;
      out.scales[i] = _mm256_mul_ps(Tools::bytes_to_floats(both & kLow), d);
      out.offsets[i] = _mm256_mul_ps(Tools::bytes_to_floats(both >> 4 & kLow), minus_dmin);
    }
    return out;
  }
};

template <class V>
struct Octet<V, DType::kQ3_K> {
  static constexpr bool kHalves = true;
  static constexpr bool kSigned = false;
  static constexpr int kMost = 7;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i pairs = Tools::load(p + 32 + kChunk / 4 * kQuantBlock);
    return _mm256_or_si256(Tools::template bits_at<kChunk % 4 * 2, 0>(pairs, 3),
                           Tools::template bits_at<kChunk, 2>(Tools::load(p), 4));
  }
  [[gnu::always_inline]] inline OctetFactors<true> factors() const {
    OctetFactors<true> out;
    const auto low = Tools::template load_as<uint64_t>(p + 96);
    const uint64_t high = Tools::template load_as<uint32_t>(p + 104);
    constexpr uint64_t kPairs = 0x03030303;
    const __m256 d = Tools::half_everywhere(p + 108);
    for (int i = 0; i < 2; ++i) {
      const uint64_t shifted = high >> (4 * i);
      const uint64_t pairs = (shifted & kPairs) | (shifted >> 2 & kPairs) << 32;
      const uint64_t six = (low >> (4 * i) & 0x0f0f0f0f0f0f0f0f) | pairs << 4;
      const __m256 scales = _mm256_sub_ps(Tools::bytes_to_floats(six), _mm256_set1_ps(32.0F));
      out.scales[i] = _mm256_mul_ps(scales, d);
      out.offsets[i] = Tools::times(out.scales[i], -4.0F);
    }
    return out;
  }
};

template <class V>
struct Octet<V, DType::kIQ4_XS> {
  static constexpr bool kHalves = false;
  static constexpr bool kSigned = true;
  static constexpr int kMost = 127;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    return Tools::look_up(kUnevenNibbles, Tools::nibbles(p + 8 + kChunk * 16));
  }
  [[gnu::always_inline]] inline OctetFactors<false> factors() const {
    const auto low = Tools::template load_as<uint32_t>(p + 4);
    const __m128i evens = _mm_cvtsi32_si128(static_cast<int>(low & 0x0f0f0f0f));
    const __m128i odds = _mm_cvtsi32_si128(static_cast<int>(low >> 4 & 0x0f0f0f0f));
    const __m256i fours = _mm256_cvtepu8_epi32(_mm_unpacklo_epi8(evens, odds));
    const __m256i high = _mm256_set1_epi32(Tools::template load_as<uint16_t>(p + 2));
    const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i pairs = _mm256_and_si256(_mm256_srlv_epi32(high, shifts), _mm256_set1_epi32(3));
    const __m256i six = _mm256_or_si256(fours, _mm256_slli_epi32(pairs, 4));
    const __m256 scales = _mm256_cvtepi32_ps(_mm256_sub_epi32(six, _mm256_set1_epi32(32)));
    return {{_mm256_mul_ps(scales, Tools::half_everywhere(p))}, {}};
  }
};

// -1, 0 and 1 are 0, 1 and 2.
template <class V>
struct Octet<V, DType::kTQ2_0> {
  static constexpr bool kHalves = false;
  static constexpr bool kSigned = false;
  static constexpr int kMost = 3;
  using Tools = OctetTools<V>;
  const std::byte* p;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const __m256i pairs = Tools::load(p + kChunk / 4 * kQuantBlock);
    return Tools::template bits_at<kChunk % 4 * 2, 0>(pairs, 3);
  }
  [[gnu::always_inline]] inline OctetFactors<false> factors() const {
    const __m256 d = Tools::half_everywhere(p + 64);
    return {{d}, {Tools::times(d, -1.0F)}};
  }
};

// The types of stand-ins: -3, -1, 1 and 3 are 0 to 3, and -7, -5 ... 7 are 0 to 7.
template <class V>
struct Octet<V, DType::kS2_0> : SmallBlocks<V, DType::kS2_0> {
  using Base = SmallBlocks<V, DType::kS2_0>;
  using Tools = typename Base::Tools;
  static constexpr int kMost = 3;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    return Tools::spread_pairs(Base::template block<kChunk>() + 2);
  }
  [[gnu::always_inline]] inline typename Base::Factors factors() const {
    const __m256 d = Tools::template halves_of<Base::kBlockBytes>(Base::p);
    return {{Tools::times(d, 2.0F)}, {Tools::times(d, -3.0F)}};
  }
};

template <class V>
struct Octet<V, DType::kS3_0> : SmallBlocks<V, DType::kS3_0> {
  using Base = SmallBlocks<V, DType::kS3_0>;
  using Tools = typename Base::Tools;
  static constexpr int kMost = 7;
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    const std::byte* block = Base::template block<kChunk>();
    return _mm256_or_si256(Tools::spread_pairs(block + 2), Tools::spread_bits(block + 10, 4));
  }
  [[gnu::always_inline]] inline typename Base::Factors factors() const {
    const __m256 d = Tools::template halves_of<Base::kBlockBytes>(Base::p);
    return {{Tools::times(d, 2.0F)}, {Tools::times(d, -7.0F)}};
  }
};

// Types that are read chunk by chunk, into memory.
template <class V, DType kType>
requires kIsByChunks<kType>
struct Octet<V, kType> {
  static constexpr bool kHalves = true;
  static constexpr bool kSigned = true;
  static constexpr int kMost = kType == DType::kTQ1_0 ? 1 : kType == DType::kIQ3_S ? 15 : 62;
  WeightChunk chunks[kOctetChunks];

  explicit Octet(const std::byte* p) {
    for (int c = 0; c < kOctetChunks; ++c) ReadWeightChunk(kType, p, c, &chunks[c]);
  }
  template <int kChunk>
  [[gnu::always_inline]] inline __m256i bytes() const {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(chunks[kChunk].quants));
  }
  [[gnu::always_inline]] inline OctetFactors<true> factors() const {
    OctetFactors<true> out = {};
    for (int i = 0; i < 2; ++i) {
      float eight[8];
      for (int g = 0; g < 8; ++g) eight[g] = chunks[4 * i + g / 2].scales[g % 2];
      out.scales[i] = _mm256_loadu_ps(eight);
    }
    return out;
  }
};

// The last octet of a row that ends within it: its blocks, and zeros. REQUIRES: n_cols are no whole
// octets.
template <class V, DType kType>
struct LastOctet {
  std::byte bytes[kOctetBytes<kType>] = {};

  LastOctet(const std::byte* row, int64_t n_cols) {
    const int64_t n_blocks = n_cols % kOctetCols / kTypeBlockElems<kType>;
    std::memcpy(bytes, row + n_cols / kOctetCols * kOctetBytes<kType>,
                static_cast<size_t>(n_blocks * kTypeBlockBytes<kType>));
  }
};

// What reads one chunk after another needs all factors in memory.
struct OctetFactorArrays {
  float scales[2 * kOctetChunks];
  float offsets[2 * kOctetChunks];
};

template <class V, bool kOffsets = true, class TypeOctet>
[[gnu::always_inline]] inline void store_factors(const TypeOctet& octet, OctetFactorArrays* out) {
  const auto factors = octet.factors();
  for (int i = 0; i < (TypeOctet::kHalves ? 2 : 1); ++i) {
    _mm256_storeu_ps(out->scales + 8 * i, factors.scales[i]);
    if constexpr (kOffsets) _mm256_storeu_ps(out->offsets + 8 * i, factors.offsets[i]);
  }
}

// Calls f.operator()<chunk>() for all chunks of an octet.
template <class V, class F>
[[gnu::always_inline]] inline void each_chunk(const F& f) {
  f.template operator()<0>();
  f.template operator()<1>();
  f.template operator()<2>();
  f.template operator()<3>();
  f.template operator()<4>();
  f.template operator()<5>();
  f.template operator()<6>();
  f.template operator()<7>();
}

// The same for two chunks at a time, which share what they are read from where chunks do.
template <DType kType, class F>
[[gnu::always_inline]] inline void each_two_chunks(const F& f) {
  constexpr int kBeside = kType == DType::kQ6_K ? 2 : 1;
  f.template operator()<0, kBeside>();
  f.template operator()<3 - kBeside, 3>();
  f.template operator()<4, 4 + kBeside>();
  f.template operator()<7 - kBeside, 7>();
}

// Calls f(bytes, factors, first) for chunks [begin, end) of an octet at p, with kHalves two factors
// from `first` on, else one. Blocks from `end` on are not read where they are small.
template <class V, DType kType, class F>
[[gnu::always_inline]] inline void visit_chunks(const std::byte* p, int64_t begin, int64_t end,
                                                const F& f) {
  using TypeOctet = Octet<V, kType>;
  constexpr int64_t kBytes = kTypeBlockBytes<kType>;
  constexpr bool kSmall = kTypeBlockElems<kType> == kQuantBlock;
  std::byte copy[kSmall ? kOctetBytes<kType> : 1];
  const std::byte* from = p;
  if (kSmall && (begin > 0 || end < kOctetChunks)) {
    std::memset(copy, 0, sizeof(copy));
    std::memcpy(copy + begin * kBytes, p + begin * kBytes,
                static_cast<size_t>((end - begin) * kBytes));
    from = copy;
  }
  const TypeOctet octet{from};
  OctetFactorArrays arrays;
  store_factors<V>(octet, &arrays);
  constexpr int kEach = TypeOctet::kHalves ? 2 : 1;
  each_chunk<V>([&]<int kChunk>() __attribute__((always_inline)) {
    if (kChunk >= begin && kChunk < end) {
      f(octet.template bytes<kChunk>(), arrays, kChunk * kEach);
    }
  });
}

}  // namespace thermocline
