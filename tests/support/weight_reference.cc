#include "tests/support/weight_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace thermocline::testing {
namespace {

uint16_t ReadU16(const std::byte* p) {
  uint16_t value = 0;
  std::memcpy(&value, p, 2);
  return value;
}

// Returns weight i of a row of Q6_K as the format's description has it: the row's bits one after
// another.
double DecodeQ6K(const std::byte* row, int64_t i) {
  const auto byte = [block = row + i / 256 * 210](int64_t at) {
    return std::to_integer<int>(block[at]);
  };
  const int64_t half = i / 128 % 2;
  const int64_t quarter = i / 32 % 4;
  const int64_t within = i % 32;
  const int nibbles = byte(half * 64 + quarter % 2 * 32 + within);
  const int low = quarter < 2 ? nibbles % 16 : nibbles / 16;
  const int high = byte(128 + half * 32 + within) >> (2 * quarter) & 3;
  const auto scale = static_cast<int8_t>(byte(192 + i % 256 / 16));
  return DecodeHalf(static_cast<uint16_t>(byte(208) | byte(209) << 8)) * scale *
         (16 * high + low - 32);
}

// The two terms of weight i of a row of Q4_1.
struct Terms {
  double scaled;
  double offset;
};
Terms TermsQ41(const std::byte* row, int64_t i) {
  const std::byte* block = row + i / 32 * 20;
  const int byte = std::to_integer<int>(block[4 + i % 16]);
  const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
  return {DecodeHalf(ReadU16(block)) * nibble, DecodeHalf(ReadU16(block + 2))};
}

}  // namespace

bool IsQuantised(DType dtype) { return GetDTypeInfo(dtype).block_elems > 1; }

int64_t WholeBlocks(DType dtype, int64_t n) {
  const int64_t block = GetDTypeInfo(dtype).block_elems;
  return (n + block - 1) / block * block;
}

double AllowedError(Tolerance tolerance, int64_t n, double sum_of_magnitudes, double reference) {
  const double c = tolerance.fixed + tolerance.per_term * static_cast<double>(n);
  return c * 0x1p-24 * sum_of_magnitudes + 0x1p-23 * std::fabs(reference) + 1e-30;
}

double DecodeHalf(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

std::vector<double> DecodeRow(DType dtype, const std::byte* row, int64_t n) {
  std::vector<double> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    double& value = out[static_cast<size_t>(i)];
    if (dtype == DType::kF32) {
      float single = 0;
      std::memcpy(&single, row + 4 * i, 4);
      value = single;
    } else if (dtype == DType::kF16) {
      value = DecodeHalf(ReadU16(row + 2 * i));
    } else if (dtype == DType::kBF16) {
      const uint32_t bits = static_cast<uint32_t>(ReadU16(row + 2 * i)) << 16;
      float single = 0;
      std::memcpy(&single, &bits, 4);
      value = single;
    } else if (dtype == DType::kQ8_0) {
      const std::byte* block = row + i / 32 * 34;
      value = DecodeHalf(ReadU16(block)) * std::to_integer<int8_t>(block[2 + i % 32]);
    } else if (dtype == DType::kQ6_K) {
      value = DecodeQ6K(row, i);
    } else if (dtype == DType::kQ4_1) {
      const Terms terms = TermsQ41(row, i);
      value = terms.scaled + terms.offset;
    } else {
      const std::byte* block = row + i / 32 * 18;
      const int byte = std::to_integer<int>(block[2 + i % 16]);
      const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
      value = DecodeHalf(ReadU16(block)) * (nibble - 8);
    }
  }
  return out;
}

std::vector<double> WeightMagnitudes(DType dtype, const std::byte* row, int64_t n) {
  std::vector<double> out = DecodeRow(dtype, row, n);
  for (int64_t i = 0; i < n; ++i) {
    double& value = out[static_cast<size_t>(i)];
    value = std::fabs(value);
    if (dtype != DType::kQ4_1) continue;
    const Terms terms = TermsQ41(row, i);
    value = std::fabs(terms.scaled) + std::fabs(terms.offset);
  }
  return out;
}

std::vector<float> RandomFloats(std::mt19937* rng, int64_t n, float scale) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& value : out) value = normal(*rng);
  return out;
}

std::vector<double> QuantisedActivations(const std::vector<float>& x) {
  std::vector<double> out(x.size());
  for (size_t b = 0; b < x.size(); b += 32) {
    float largest = 0;
    for (size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float d = largest / 127.0F;
    const float inverse = d > 0 ? 1.0F / d : 0.0F;
    for (size_t i = b; i < b + 32; ++i) {
      out[i] = static_cast<double>(std::nearbyint(x[i] * inverse)) * static_cast<double>(d);
    }
  }
  return out;
}

}  // namespace thermocline::testing
