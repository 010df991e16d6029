// 16 bytes of a weight row as a lane reads and decodes them; for .cu files. Layout:
// gpu_kernels/products/weight_layout.h.
#pragma once

#include <algorithm>

#include "gpu_kernels/base/cuda_api.h"
#include "runtime/core/dtype.h"

namespace thermocline {

// Weights that a lane reads at once: those in 16 bytes of a row, or of its low nibbles.
__host__ __device__ constexpr int LaneElements(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kQ8_0:
      return 16;
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ6_K:
      return 32;
    case DType::kF16:
    case DType::kBF16:
      return 8;
    default:
      return 0;
  }
}
static_assert(std::ranges::none_of(kWeightDTypes, [](DType t) { return LaneElements(t) == 0; }),
              "say how many weights a lane reads");

// How many scales the weights have that a lane reads at once. Each scale is of as many weights.
__host__ __device__ constexpr int LaneScales(DType dtype) { return dtype == DType::kQ6_K ? 2 : 1; }

// Whether something is added to a block's weights beside their scale (see Offset()).
template <DType kType>
constexpr bool kHasOffset = kType == DType::kQ4_1;

__host__ __device__ constexpr int ScaleOf(DType dtype, int element) {
  return element * LaneScales(dtype) / LaneElements(dtype);
}

__device__ inline float F16Bits(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
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
// i)), exactly, plus Offset() where the type has an offset.
template <DType kType>
struct WeightWords {
  static_assert(kHandlesType<kType>, "say how a lane reads the type");
};

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

// Conversions of integers are slow on consumer cards. An integer put into the mantissa of 2^23
// stands for itself plus 2^23, which a subtraction takes away, exactly.
constexpr unsigned kTwoTo23Bits = 0x4b000000u;
constexpr float kTwoTo23 = 8388608.0f;

template <>
struct WeightWords<DType::kQ8_0> : ScaledRowWords {
  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    LoadScale(row, padded_cols, step / 2);
  }
  __device__ float Value(int i) const {
    // The byte plus 128 is unsigned, which the flipped bit makes of it.
    const unsigned offset = Word(i / 4) ^ 0x80808080u;
    const unsigned bits = __byte_perm(offset, kTwoTo23Bits, 0x7540u + static_cast<unsigned>(i % 4));
    return __uint_as_float(bits) - (kTwoTo23 + 128);
  }
};

template <>
struct WeightWords<DType::kQ4_0> : ScaledRowWords {
  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    LoadScale(row, padded_cols / 2, step);
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

template <>
struct WeightWords<DType::kQ4_1> : RowWords {
  unsigned factors;  // f16 scale, f16 offset

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    factors = __ldcs(reinterpret_cast<const unsigned*>(row + padded_cols / 2) + step);
  }
  __device__ float Scaled(float factor, int /*scale*/ = 0) const {
    return factor * F16Bits(factors & 0xffffu);
  }
  __device__ float Offset() const { return F16Bits(factors >> 16); }
  // Element i is nibble 2 (i % 4) + i / 16 of word (i % 16) / 4, without a sign.
  __device__ float Value(int i) const {
    const int shift = 8 * (i % 4) + 4 * (i / 16);
    const unsigned bits = (Word(i % 16 / 4) >> shift & 0xfu) | kTwoTo23Bits;
    return __uint_as_float(bits) - kTwoTo23;
  }
};

// A weight's six bits stand at the top of a signed byte, which makes four times its value.
template <>
struct WeightWords<DType::kQ6_K> : RowWords {
  uint2 high;
  unsigned short scales;  // two signed bytes, each the scale of 16 weights
  unsigned short d;

  __device__ void Load(const std::byte* row, int64_t padded_cols, int64_t step) {
    LoadWords(row, step);
    // Offsets have 32 bits, since pointers to four planes of each row would fill the registers.
    const auto cols = static_cast<unsigned>(padded_cols);
    const auto at = static_cast<unsigned>(step);
    high = __ldcs(reinterpret_cast<const uint2*>(row + (cols / 2 + at * 8)));
    scales = __ldcs(reinterpret_cast<const unsigned short*>(row + (cols / 4 * 3 + at * 2)));
    d = __ldcs(reinterpret_cast<const unsigned short*>(row + (cols / 16 * 13 + at / 8 * 2)));
  }
  // Returns weights 4 * group ... as four signed bytes.
  __device__ unsigned Bytes(int group) const {
    const unsigned low = group < 4 ? Word(group) << 2 : Word(group - 4) >> 2;
    const unsigned pairs = (group < 4 ? high.x : high.y) << (6 - 2 * (group % 4));
    return (low & 0x3c3c3c3cu) | (pairs & 0xc0c0c0c0u);
  }
  __device__ int Scale(int scale) const {
    return static_cast<signed char>(scale == 0 ? scales & 0xffu : scales >> 8);
  }
  __device__ float Value(int i) const {
    const unsigned offset = Bytes(i / 4) ^ 0x80808080u;
    const unsigned bits = __byte_perm(offset, kTwoTo23Bits, 0x7540u + static_cast<unsigned>(i % 4));
    return __uint_as_float(bits) - (kTwoTo23 + 128);
  }
  __device__ float Scaled(float factor, int scale) const {
    return factor * (F16Bits(d) * (0.25f * static_cast<float>(Scale(scale))));
  }
};

}  // namespace thermocline
