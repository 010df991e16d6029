// f32 to the stored types. Q8_0, Q4_0 and Q4_1 round exactly as ggml's reference code does
// (quantize_row_q8_0_ref, quantize_row_q4_0_ref, quantize_row_q4_1_ref), so that files match those
// of other tools byte for byte. A block that holds NaN or infinity gets the scale NaN: garbage
// stays visible.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/core/half.h"
#include "runtime/core/q6_k_block.h"

namespace thermocline {
namespace {

constexpr uint16_t kNanF16 = 0x7e00;

void put_u16(std::byte* out, uint16_t value) { std::memcpy(out, &value, sizeof(value)); }

bool all_finite(const float* x, int64_t n) {
  return std::all_of(x, x + n, [](float value) { return std::isfinite(value); });
}

void quantize_q8_0_block(const float* x, std::byte* out) {
  float largest = 0.0F;
  for (int i = 0; i < kQuantBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float d = largest / 127.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  for (int i = 0; i < kQuantBlock; ++i) {
    // Only a subnormal d can leave [-127, 127]: its f16 is 0, so the clamp changes no value.
    const float q = std::clamp(std::round(x[i] * inverse), -127.0F, 127.0F);
    out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(q));
  }
}

void quantize_q4_0_block(const float* x, std::byte* out) {
  float largest = 0.0F;  // keeps its sign: it maps to -8, the end of the range that has no partner
  for (int i = 0; i < kQuantBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float d = largest / -8.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  const auto nibble = [inverse](float value) {
    return static_cast<unsigned>(std::clamp(value * inverse + 8.5F, 0.0F, 15.0F));
  };
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    out[2 + i] = static_cast<std::byte>(nibble(x[i]) | nibble(x[i + 16]) << 4);
  }
}

// The smallest value becomes nibble 0 of offset m, the largest 15.
void quantize_q4_1_block(const float* x, std::byte* out) {
  const auto [smallest, largest] = std::minmax_element(x, x + kQuantBlock);
  const float m = *smallest;
  const float d = (*largest - m) / 15.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  put_u16(out + 2, F32ToF16(m));
  // Differences or reciprocals that leave f32 come with a d whose f16 is infinite or 0; fmin and
  // fmax take the number beside a NaN of theirs.
  const auto nibble = [m, inverse](float value) {
    return static_cast<unsigned>(std::fmax(0.0F, std::fmin(15.0F, (value - m) * inverse + 0.5F)));
  };
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    out[4 + i] = static_cast<std::byte>(nibble(x[i]) | nibble(x[i + 16]) << 4);
  }
}

// Returns the nearest integer in [-32, 31], ties to even: adding 1.5 * 2^23 rounds to one.
float six_bits_of(float x, float inverse) {
  return (std::clamp(x * inverse, -32.0F, 31.0F) + 12582912.0F) - 12582912.0F;
}

// A scale for 16 weights, and a measure of how well it serves: by how much it lowers their sum of
// squares.
struct ScaleFit {
  float scale = 0.0F;
  float gain = 0.0F;
};

// Finds the scale of least squared error for the integers that an inverse gives.
ScaleFit fit_scale(const float* x, float inverse) {
  float products = 0.0F;
  float squares = 0.0F;
  for (int i = 0; i < q6_k::kScaled; ++i) {
    const float q = six_bits_of(x[i], inverse);
    products += x[i] * q;
    squares += q * q;
  }
  return {products / squares, products / squares * products};
}

// Chooses the best of nine scales: the largest magnitude becomes -32 or comes near it on either
// side.
float choose_scale(const float* x) {
  float largest = 0.0F;
  for (int i = 0; i < q6_k::kScaled; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float inverse = 1.0F / largest;
  if (!std::isfinite(inverse)) return 0.0F;  // zeros, or far too small for d
  float parts[q6_k::kScaled];  // sums of values divided by the largest, so that none can overflow
  for (int i = 0; i < q6_k::kScaled; ++i) parts[i] = x[i] * inverse;
  ScaleFit best;
  for (int step = -4; step <= 4; ++step) {
    const ScaleFit fit = fit_scale(parts, -32.0F + 0.5F * static_cast<float>(step));
    if (fit.gain > best.gain) best = fit;
  }
  return largest * best.scale;
}

void put_q6_k(int64_t i, unsigned value, std::byte* out) {
  const int64_t c = i / kQuantBlock;
  const int64_t at = i % kQuantBlock;
  out[q6_k::LowAt(c) + at] |= static_cast<std::byte>((value & 15U) << q6_k::LowShift(c));
  out[q6_k::HighAt(c) + at] |= static_cast<std::byte>((value >> 4U) << q6_k::HighShift(c));
}

// Each 16 weights choose a scale. The scale of largest magnitude becomes -128 times d, and the
// others the nearest multiple of d. Then the integers are rounded for the scales as they are
// stored.
void quantize_q6_k_block(const float* x, std::byte* out) {
  constexpr int64_t kGroups = kSuperBlock / q6_k::kScaled;
  float scales[kGroups];
  float largest = 0.0F;
  for (int64_t g = 0; g < kGroups; ++g) {
    scales[g] = choose_scale(x + g * q6_k::kScaled);
    if (std::fabs(scales[g]) > std::fabs(largest)) largest = scales[g];
  }
  std::memset(out, 0, q6_k::kBytes);
  const uint16_t half = F32ToF16(largest / -128.0F);
  put_u16(out + q6_k::kDAt, half);
  const float d = F16ToF32(half);
  const float inverse_d = d != 0.0F ? 1.0F / d : 0.0F;
  for (int64_t g = 0; g < kGroups; ++g) {
    const float scale = std::clamp(std::round(scales[g] * inverse_d), -128.0F, 127.0F);
    out[q6_k::kScalesAt + g] = static_cast<std::byte>(static_cast<int8_t>(scale));
    const float step = d * scale;
    const float inverse = step != 0.0F && std::isfinite(step) ? 1.0F / step : 0.0F;
    for (int64_t i = g * q6_k::kScaled; i < (g + 1) * q6_k::kScaled; ++i) {
      put_q6_k(i, static_cast<unsigned>(six_bits_of(x[i], inverse) + 32.0F), out);
    }
  }
}

// scale_at says where d lies in a block.
template <DType kType>
void quantize_blocks(void (*quantize)(const float* x, std::byte* out), int64_t scale_at,
                     const float* x, int64_t n, std::byte* out) {
  CHECK(n % kTypeBlockElems<kType> == 0);
  for (int64_t b = 0; b < n / kTypeBlockElems<kType>; ++b) {
    const float* block = x + b * kTypeBlockElems<kType>;
    std::byte* block_out = out + b * kTypeBlockBytes<kType>;
    if (all_finite(block, kTypeBlockElems<kType>)) {
      quantize(block, block_out);
    } else {
      std::memset(block_out, 0, static_cast<size_t>(kTypeBlockBytes<kType>));
      put_u16(block_out + scale_at, kNanF16);
    }
  }
}

template <DType kType>
void quantize_row(const float* x, int64_t n, std::byte* out) {
  if constexpr (kType == DType::kF32) {
    std::memcpy(out, x, static_cast<size_t>(n) * 4);
  } else if constexpr (kType == DType::kF16) {
    for (int64_t i = 0; i < n; ++i) put_u16(out + i * 2, F32ToF16(x[i]));
  } else if constexpr (kType == DType::kBF16) {
    for (int64_t i = 0; i < n; ++i) put_u16(out + i * 2, F32ToBf16(x[i]));
  } else if constexpr (kType == DType::kQ8_0) {
    quantize_blocks<kType>(quantize_q8_0_block, 0, x, n, out);
  } else if constexpr (kType == DType::kQ6_K) {
    quantize_blocks<kType>(quantize_q6_k_block, q6_k::kDAt, x, n, out);
  } else if constexpr (kType == DType::kQ4_0) {
    quantize_blocks<kType>(quantize_q4_0_block, 0, x, n, out);
  } else if constexpr (kType == DType::kQ4_1) {
    quantize_blocks<kType>(quantize_q4_1_block, 0, x, n, out);
  } else {
    CheckFailed(__FILE__, __LINE__, "a type that can be written");
  }
}

}  // namespace

void QuantizeRow(DType dtype, const float* x, int64_t n, std::byte* out) {
  VisitWeightType(dtype, [&](auto type) { quantize_row<type()>(x, n, out); });
}

}  // namespace thermocline
