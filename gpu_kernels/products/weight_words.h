// A step of a weight row, most often 16 bytes, as a lane reads and decodes it; for .cu files.
// Layout: gpu_kernels/products/weight_layout.h.
#pragma once

#include <algorithm>

#include "gpu_kernels/base/cuda_api.h"
#include "gpu_kernels/products/weight_layout.h"
#include "runtime/core/dtype.h"
#include "runtime/core/quant_values.h"

namespace thermocline {

// Weights that a lane reads at once.
__host__ __device__ constexpr int LaneElements(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 8;
    case DType::kQ8_0:
      return 16;
    default:
      return kQuantBlock;
  }
}

// How many scales the weights have that a lane reads at once, and offsets where there are any. Each
// is of as many weights.
__host__ __device__ constexpr int LaneScales(DType dtype) {
  return dtype == DType::kQ2_K || dtype == DType::kQ3_K || dtype == DType::kQ6_K ||
                 dtype == kGpuGridType
             ? 2
             : 1;
}

// Whether something is added to weights beside their scale (see Offset()).
template <DType kType>
constexpr bool kHasOffset = kType == DType::kQ4_1 || kType == DType::kQ5_1 ||
                            kType == DType::kQ2_K || kType == DType::kQ4_K || kType == DType::kQ5_K;

__host__ __device__ constexpr int ScaleOf(DType dtype, int element) {
  return element * LaneScales(dtype) / LaneElements(dtype);
}

__device__ inline float F16Bits(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// Conversions of integers are slow on consumer cards. An integer put into the mantissa of 2^23
// stands for itself plus 2^23, which a subtraction takes away, exactly.
constexpr unsigned kTwoTo23Bits = 0x4b000000u;
constexpr float kTwoTo23 = 8388608.0f;

// value: below 2^23.
__device__ inline float SmallFloat(unsigned value) {
  return __uint_as_float(value | kTwoTo23Bits) - kTwoTo23;
}
// Byte i of four.
__device__ inline float UnsignedByte(unsigned four, int i) {
  const unsigned bits = __byte_perm(four, kTwoTo23Bits, 0x7540u + static_cast<unsigned>(i));
  return __uint_as_float(bits) - kTwoTo23;
}
__device__ inline float SignedByte(unsigned four, int i) {
  // The byte plus 128 is unsigned, which the flipped bit makes of it.
  const unsigned bits =
      __byte_perm(four ^ 0x80808080u, kTwoTo23Bits, 0x7540u + static_cast<unsigned>(i));
  return __uint_as_float(bits) - (kTwoTo23 + 128);
}

// What lies `at` bytes into a row. Offsets have 32 bits, since pointers to the planes of each row
// would fill the registers.
template <typename T>
__device__ inline T LoadAt(const std::byte* row, unsigned at) {
  return __ldcs(reinterpret_cast<const T*>(row + at));
}

// Bytes `step` * 16 ... of a row. They go past the cache, as weights are read once a token.
struct RowWords {
  uint4 words;

  __device__ void LoadWords(const std::byte* row, int64_t step) {
    words = __ldcs(reinterpret_cast<const uint4*>(row) + step);
  }
  // Returns factor times what Value() leaves out, for the weights of a scale.
  __device__ float Scaled(float factor, int /*scale*/ = 0) const { return factor; }
  __device__ unsigned Word(int i) const {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
  }
};

// Bytes of a row with the f16 scale of their block, which lies behind the row's weights.
struct ScaledRowWords : RowWords {
  unsigned short scale;

  __device__ void LoadScale(const std::byte* row, int64_t weight_bytes, int64_t block) {
    scale = __ldcs(reinterpret_cast<const unsigned short*>(row + weight_bytes) + block);
  }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const { return factor * F16Bits(scale); }
};

// Load(row, padded_cols, step) reads elements step * LaneElements ... of a row. Value(i) is the
// i-th of them, without its scale where there is one: a weight is Scaled(Value(i), ScaleOf(kType,
// i)), exactly, plus Offset(ScaleOf(kType, i)) where the type has offsets. Of quantised types
// Bytes(g) is Values 4 g ... as four signed bytes; where a lane has two scales, Scaled(f, s) is
// Common(f) * Scale(s), and Scale(s) an integer.
template <DType kType>
struct WeightWords {
  static_assert(kHandlesType<kType>, "say how a lane reads the type");
};

// What a byte of Bytes() is multiplied by, to be a Value().
template <DType kType>
constexpr float kByteUnit = kType == DType::kQ4_0 ? 0.0625f : 1.0f;

// A weight of a lane's step.
template <DType kType>
__device__ inline float WeightOf(const WeightWords<kType>& w, int i) {
  const float scaled = w.Scaled(w.Value(i), ScaleOf(kType, i));
  if constexpr (kHasOffset<kType>) {
    return scaled + w.Offset(ScaleOf(kType, i));
  } else {
    return scaled;
  }
}

template <>
struct WeightWords<DType::kF32> : RowWords {
  __device__ void Load(const std::byte* row, int64_t /*padded_cols*/, int64_t step) {
    LoadWords(row, step);
  }
  __device__ float Value(int i) const { return __uint_as_float(Word(i)); }
};

template <>
struct WeightWords<DType::kF16> : RowWords {
  __device__ void Load(const std::byte* row, int64_t /*padded_cols*/, int64_t step) {
    LoadWords(row, step);
  }
  __device__ float Value(int i) const {
    return F16Bits(i % 2 == 0 ? Word(i / 2) & 0xffffu : Word(i / 2) >> 16);
  }
};

template <>
struct WeightWords<DType::kBF16> : RowWords {
  __device__ void Load(const std::byte* row, int64_t /*padded_cols*/, int64_t step) {
    LoadWords(row, step);
  }
  __device__ float Value(int i) const {
    return __uint_as_float(i % 2 == 0 ? Word(i / 2) << 16 : Word(i / 2) & 0xffff0000u);
  }
};

template <>
struct WeightWords<DType::kQ8_0> : ScaledRowWords {
  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    LoadScale(row, padded_cols, step / 2);
  }
  __device__ unsigned Bytes(int group) const { return Word(group); }
  __device__ float Value(int i) const { return SignedByte(Word(i / 4), i % 4); }
};

template <>
struct WeightWords<DType::kQ4_0> : ScaledRowWords {
  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    LoadScale(row, padded_cols / 2, step);
  }
  // A nibble in the upper half of a byte is 16 times its value.
  __device__ unsigned Bytes(int group) const {
    return (group < 4 ? Word(group) << 4 : Word(group - 4)) & 0xf0f0f0f0u;
  }
  // Element i is nibble 2 (i % 4) + i / 16 of word (i % 16) / 4.
  __device__ float Value(int i) const {
    const int shift = 8 * (i % 4) + 4 * (i / 16);
    // The nibble plus 8 is unsigned. The flip is part of the one three-input logic operation behind
    // the shift.
    const unsigned bits = (Word(i % 16 / 4) >> shift & 0xfu) ^ (kTwoTo23Bits | 8u);
    return __uint_as_float(bits) - (kTwoTo23 + 8);
  }
};

// Nibbles in the order of Q4_0, without a sign.
struct NibbleWords : RowWords {
  __device__ unsigned Nibbles(int group) const {
    return (group < 4 ? Word(group) : Word(group - 4) >> 4) & 0x0f0f0f0fu;
  }
};

// An f16 scale and an f16 offset in a word.
struct FactorPair {
  unsigned bits;

  __device__ float Scale() const { return F16Bits(bits & 0xffffu); }
  __device__ float Offset() const { return F16Bits(bits >> 16); }
};

template <>
struct WeightWords<DType::kQ4_1> : NibbleWords {
  FactorPair factors;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    factors = {__ldcs(reinterpret_cast<const unsigned*>(row + padded_cols / 2) + step)};
  }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    return factor * factors.Scale();
  }
  __device__ float Offset(int /*scale*/ = 0) const { return factors.Offset(); }
  __device__ unsigned Bytes(int group) const { return Nibbles(group); }
  // Element i is nibble 2 (i % 4) + i / 16 of word (i % 16) / 4, without a sign.
  __device__ float Value(int i) const {
    const int shift = 8 * (i % 4) + 4 * (i / 16);
    return SmallFloat(Word(i % 16 / 4) >> shift & 0xfu);
  }
};

// A bit of each of 32 weights: weight i's is bit i / 4 of byte i % 4.
struct BitPlane {
  unsigned bits;

  __device__ void Load(const std::byte* row, unsigned plane, unsigned step) {
    bits = LoadAt<unsigned>(row, plane + step * 4);
  }
  // Returns the bits of weights 4 * group ... as bit `at` of four bytes.
  __device__ unsigned At(int at, int group) const {
    return (group < at ? bits << (at - group) : bits >> (group - at)) & 0x01010101u << at;
  }
};

// A weight's five bits stand at the top of a signed byte, which makes eight times its value.
template <>
struct WeightWords<DType::kQ5_0> : RowWords {
  BitPlane fifth;
  unsigned short scale;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    fifth.Load(row, cols / 2, at);
    scale = LoadAt<unsigned short>(row, cols / 8 * 5 + at * 2);
  }
  __device__ unsigned Bytes(int group) const {
    const unsigned low = group < 4 ? Word(group) << 3 : Word(group - 4) >> 1;
    return (low & 0x78787878u) | fifth.At(7, group);
  }
  __device__ float Value(int i) const { return SignedByte(Bytes(i / 4), i % 4); }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    return factor * (F16Bits(scale) * 0.125f);
  }
};

template <>
struct WeightWords<DType::kQ5_1> : NibbleWords {
  BitPlane fifth;
  FactorPair factors;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    fifth.Load(row, cols / 2, at);
    factors = {LoadAt<unsigned>(row, cols / 8 * 5 + at * 4)};
  }
  __device__ unsigned Bytes(int group) const { return Nibbles(group) | fifth.At(4, group); }
  __device__ float Value(int i) const { return UnsignedByte(Bytes(i / 4), i % 4); }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    return factor * factors.Scale();
  }
  __device__ float Offset(int /*scale*/ = 0) const { return factors.Offset(); }
};

// Two numbers of six bits that go with 32 weights.
struct SixBitPair {
  unsigned char low;   // the first, and two bits of the second
  unsigned char high;  // four bits of the second, and of a neighbour's
  unsigned char shift;

  __device__ void Load(const std::byte* row, unsigned plane, unsigned cols, unsigned step) {
    low = LoadAt<unsigned char>(row, plane + step);
    high = LoadAt<unsigned char>(row, plane + cols / 32 + step / 2);
    shift = static_cast<unsigned char>(step % 2 * 4);
  }
  __device__ unsigned First() const { return low & 63u; }
  __device__ unsigned Second() const {
    return static_cast<unsigned>(low) >> 6 | (static_cast<unsigned>(high) >> shift & 15u) << 2;
  }
};

// The scale and the offset of 32 weights as numbers of six bits, in units of a block's two factors.
struct SixBitFactors {
  SixBitPair six;
  FactorPair factors;

  __device__ void Load(const std::byte* row, unsigned plane, unsigned cols, unsigned step) {
    six.Load(row, plane, cols, step);
    factors = {LoadAt<unsigned>(row, plane + cols / 64 * 3 + step / 8 * 4)};
  }
  __device__ float Scale() const { return factors.Scale() * SmallFloat(six.First()); }
  __device__ float Offset() const { return -factors.Offset() * SmallFloat(six.Second()); }
};

template <>
struct WeightWords<DType::kQ4_K> : NibbleWords {
  SixBitFactors factors;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto cols = static_cast<unsigned>(padded_cols);
    factors.Load(row, cols / 2, cols, static_cast<unsigned>(step));
  }
  __device__ unsigned Bytes(int group) const { return Nibbles(group); }
  __device__ float Value(int i) const { return UnsignedByte(Bytes(i / 4), i % 4); }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    return factor * factors.Scale();
  }
  __device__ float Offset(int /*scale*/ = 0) const { return factors.Offset(); }
};

template <>
struct WeightWords<DType::kQ5_K> : NibbleWords {
  BitPlane fifth;
  SixBitFactors factors;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    fifth.Load(row, cols / 2, at);
    factors.Load(row, cols / 8 * 5, cols, at);
  }
  __device__ unsigned Bytes(int group) const { return Nibbles(group) | fifth.At(4, group); }
  __device__ float Value(int i) const { return UnsignedByte(Bytes(i / 4), i % 4); }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    return factor * factors.Scale();
  }
  __device__ float Offset(int /*scale*/ = 0) const { return factors.Offset(); }
};

// Two bits of each of 16 weights in a word: those of weight i are bits 2 (i / 4) of byte i % 4.
struct PairWords {
  uint2 words;

  __device__ void Load(const std::byte* row, unsigned plane, unsigned step) {
    words = LoadAt<uint2>(row, plane + step * 8);
  }
  // Returns the pairs of weights 4 * group ... as bits `at` and at + 1 of four bytes.
  __device__ unsigned At(int at, int group) const {
    const unsigned word = group < 4 ? words.x : words.y;
    const int from = group % 4 * 2;
    return (from < at ? word << (at - from) : word >> (from - at)) & 0x03030303u << at;
  }
};

template <>
struct WeightWords<DType::kQ2_K> {
  PairWords pairs;
  unsigned short small;  // of 16 weights each: a nibble of scale, a nibble of offset
  FactorPair factors;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    pairs.Load(row, 0, at);
    small = LoadAt<unsigned short>(row, cols / 4 + at * 2);
    factors = {LoadAt<unsigned>(row, cols / 16 * 5 + at / 8 * 4)};
  }
  __device__ unsigned Bytes(int group) const { return pairs.At(0, group); }
  __device__ float Value(int i) const { return UnsignedByte(Bytes(i / 4), i % 4); }
  __device__ unsigned Nibble(int i) const { return static_cast<unsigned>(small) >> (4 * i) & 15u; }
  __device__ int Scale(int scale) const { return static_cast<int>(Nibble(2 * scale)); }
  __device__ float Common(float factor) const { return factor * factors.Scale(); }
  __device__ float Scaled(float factor, int scale) const {
    return factor * (factors.Scale() * SmallFloat(Nibble(2 * scale)));
  }
  __device__ float Offset(int scale) const {
    return -factors.Offset() * SmallFloat(Nibble(2 * scale + 1));
  }
};

// A weight's three bits stand at the top of a signed byte, which makes 32 times its value.
template <>
struct WeightWords<DType::kQ3_K> {
  PairWords pairs;
  BitPlane third;
  SixBitPair scales;  // plus 32
  unsigned short d;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    pairs.Load(row, 0, at);
    third.Load(row, cols / 4, at);
    scales.Load(row, cols / 8 * 3, cols, at);
    d = LoadAt<unsigned short>(row, cols / 64 * 27 + at / 8 * 2);
  }
  __device__ unsigned Bytes(int group) const { return pairs.At(5, group) | third.At(7, group); }
  __device__ float Value(int i) const { return SignedByte(Bytes(i / 4), i % 4); }
  __device__ int Scale(int scale) const {
    return static_cast<int>(scale == 0 ? scales.First() : scales.Second()) - 32;
  }
  __device__ float Common(float factor) const { return factor * (F16Bits(d) * 0.03125f); }
  __device__ float Scaled(float factor, int scale) const {
    return factor * (F16Bits(d) * (0.03125f * static_cast<float>(Scale(scale))));
  }
};

// A weight's six bits stand at the top of a signed byte, which makes four times its value.
template <>
struct WeightWords<DType::kQ6_K> : RowWords {
  PairWords high;
  unsigned short scales;  // two signed bytes, each the scale of 16 weights
  unsigned short d;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    high.Load(row, cols / 2, at);
    scales = LoadAt<unsigned short>(row, cols / 4 * 3 + at * 2);
    d = LoadAt<unsigned short>(row, cols / 16 * 13 + at / 8 * 2);
  }
  __device__ unsigned Bytes(int group) const {
    const unsigned low = group < 4 ? Word(group) << 2 : Word(group - 4) >> 2;
    return (low & 0x3c3c3c3cu) | high.At(6, group);
  }
  __device__ int Scale(int scale) const {
    return static_cast<signed char>(scale == 0 ? scales & 0xffu : scales >> 8);
  }
  __device__ float Value(int i) const { return SignedByte(Bytes(i / 4), i % 4); }
  __device__ float Common(float factor) const { return F16Bits(d) * (factor * 0.25f); }
  __device__ float Scaled(float factor, int scale) const {
    return factor * (F16Bits(d) * (0.25f * static_cast<float>(Scale(scale))));
  }
};

// Returns those four of 16 bytes that the nibbles of the lower half of `nibbles` name.
__device__ inline unsigned LookUp(const uint4& bytes, unsigned nibbles) {
  const unsigned within = nibbles & 0x7777u;
  const unsigned first = __byte_perm(bytes.x, bytes.y, within);
  const unsigned second = __byte_perm(bytes.z, bytes.w, within);
  return __byte_perm(first, second, 0x3210u | (nibbles & 0x8888u) >> 1);
}

__host__ __device__ constexpr unsigned FourBytes(const int8_t* values) {
  unsigned four = 0;
  for (int i = 0; i < 4; ++i) {
    four |= static_cast<unsigned>(static_cast<uint8_t>(values[i])) << (8 * i);
  }
  return four;
}

// Nibbles that stand for bytes: weight i is nibble i.
struct NamedWords : RowWords {
  __device__ unsigned NibblesOf(int group) const { return Word(group / 2) >> (group % 2 * 16); }
};

// Nibbles that stand for bytes that are known here.
template <const int8_t (&kValues)[16]>
struct TableWords : NamedWords {
  __device__ unsigned Bytes(int group) const {
    constexpr unsigned kFirst = FourBytes(kValues);
    constexpr unsigned kSecond = FourBytes(kValues + 4);
    constexpr unsigned kThird = FourBytes(kValues + 8);
    constexpr unsigned kFourth = FourBytes(kValues + 12);
    return LookUp(make_uint4(kFirst, kSecond, kThird, kFourth), NibblesOf(group));
  }
  __device__ float Value(int i) const { return SignedByte(Bytes(i / 4), i % 4); }
};

template <>
struct WeightWords<DType::kIQ4_NL> : TableWords<kUnevenNibbles> {
  unsigned short scale;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto at = static_cast<unsigned>(step);
    scale = LoadAt<unsigned short>(row, static_cast<unsigned>(padded_cols) / 2 + at * 2);
  }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const { return factor * F16Bits(scale); }
};

template <>
struct WeightWords<DType::kIQ4_XS> : TableWords<kUnevenNibbles> {
  unsigned head;      // d, two high bits of the scales of eight steps
  unsigned char low;  // four low bits of the scales of two steps
  unsigned char chunk;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    const auto at = static_cast<unsigned>(step);
    const unsigned block = static_cast<unsigned>(padded_cols) / 2 + at / 8 * 8;
    chunk = static_cast<unsigned char>(at % 8);
    head = LoadAt<unsigned>(row, block);
    low = LoadAt<unsigned char>(row, block + 4 + chunk / 2);
  }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    const unsigned four = static_cast<unsigned>(low) >> (chunk % 2 * 4) & 15u;
    const unsigned six = four | (head >> (16 + 2 * chunk) & 3u) << 4;
    return factor * (F16Bits(head & 0xffffu) * (SmallFloat(six) - 32.0f));
  }
};

template <>
struct WeightWords<DType::kMXFP4> : TableWords<kFloatNibbles> {
  unsigned char exponent;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    exponent = LoadAt<unsigned char>(
        row, static_cast<unsigned>(padded_cols) / 2 + static_cast<unsigned>(step));
  }
  // 2^(exponent - 128); the two smallest are subnormal.
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    const unsigned e = exponent;
    return factor * __uint_as_float(e < 2 ? 0x200000u << e : (e - 1) << 23);
  }
};

// Nibbles that stand for bytes that the row begins with.
template <>
struct WeightWords<kGpuGridType> : NamedWords {
  uint4 table;
  unsigned char scales;  // two nibbles s, for scales 2 s + 1 of 16 weights each
  unsigned short d;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    table = LoadAt<uint4>(row, 0);
    LoadWords(row, step + 1);
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    scales = LoadAt<unsigned char>(row, 16 + cols / 2 + at);
    d = LoadAt<unsigned short>(row, 16 + cols / 32 * 17 + at / 8 * 2);
  }
  __device__ unsigned Bytes(int group) const { return LookUp(table, NibblesOf(group)); }
  __device__ float Value(int i) const { return SignedByte(Bytes(i / 4), i % 4); }
  __device__ int Scale(int scale) const {
    return 2 * (static_cast<int>(scales) >> (4 * scale) & 15) + 1;
  }
  __device__ float Common(float factor) const { return factor * (F16Bits(d) * 0.125f); }
  __device__ float Scaled(float factor, int scale) const {
    return factor * (F16Bits(d) * (0.125f * static_cast<float>(Scale(scale))));
  }
};

}  // namespace thermocline
