#include "tests/support/weight_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/core/half.h"
#include "runtime/core/weight_chunk.h"

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

double DecodeQ41(const std::byte* row, int64_t i) {
  const std::byte* block = row + i / 32 * 20;
  const int byte = std::to_integer<int>(block[4 + i % 16]);
  const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
  return DecodeHalf(ReadU16(block)) * nibble + DecodeHalf(ReadU16(block + 2));
}

// The weights of a row, in ascending order, by way of their chunks.
struct ChunkWeight {
  int quant;
  double scale;
  double offset;
};
class RowChunks {
 public:
  RowChunks(DType dtype, const std::byte* row) : dtype_(dtype), row_(row) {}
  ChunkWeight At(int64_t i) {
    if (i / kQuantBlock != chunk_) {
      chunk_ = i / kQuantBlock;
      ReadWeightChunk(dtype_, row_, chunk_, &weights_);
    }
    const int64_t at = i % kQuantBlock;
    return {weights_.quants[at], weights_.scales[at / kChunkScaled],
            weights_.offsets[at / kChunkScaled]};
  }

 private:
  DType dtype_;
  const std::byte* row_;
  int64_t chunk_ = -1;
  WeightChunk weights_ = {};
};

// What CPU kernels add to a type's integers, so that they have no sign, and take away again by way
// of the offset.
int ZeroPoint(DType dtype) {
  switch (dtype) {
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return 1;
    case DType::kS2_0:
      return 3;
    case DType::kQ3_K:
      return 4;
    case DType::kS3_0:
      return 7;
    case DType::kIQ3_S:
    case DType::kQ5_0:
    case DType::kMXFP4:
      return 16;
    case DType::kQ6_K:
      return 32;
    case DType::kIQ2_XXS:
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
    case DType::kIQ3_XXS:
      return 64;
    default:
      return 0;
  }
}

void StoreU16(uint16_t value, std::byte* to) { std::memcpy(to, &value, sizeof(value)); }

// A weight of an unquantised type.
void StoreFloat(DType dtype, float value, std::byte* to) {
  if (dtype == DType::kF32) std::memcpy(to, &value, sizeof(value));
  if (dtype == DType::kF16) StoreU16(F32ToF16(value), to);
  if (dtype == DType::kBF16) StoreU16(F32ToBf16(value), to);
}

// An f16 factor of a block: where it lies, and its largest magnitude in random rows.
struct Factor {
  int64_t at = 0;
  float most = 0;  // 0: there is no such factor
};
struct BlockFactors {
  Factor scale;
  Factor offset;
};

BlockFactors FactorsOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {{0, 1.0F / 8}, {}};
    case DType::kQ4_1:
      return {{0, 1.0F / 8}, {2, 1}};
    case DType::kQ5_0:
      return {{0, 1.0F / 16}, {}};
    case DType::kQ5_1:
      return {{0, 1.0F / 16}, {2, 1}};
    case DType::kQ8_0:
    case DType::kIQ4_NL:
      return {{0, 1.0F / 128}, {}};
    case DType::kS2_0:
    case DType::kS3_0:
      return {{0, 1.0F / 8}, {}};
    case DType::kQ2_K:
      return {{80, 1.0F / 32}, {82, 1.0F / 16}};
    case DType::kQ3_K:
      return {{108, 1.0F / 128}, {}};
    case DType::kQ4_K:
      return {{0, 1.0F / 512}, {2, 1.0F / 64}};
    case DType::kQ5_K:
      return {{0, 1.0F / 1024}, {2, 1.0F / 64}};
    case DType::kQ6_K:
      return {{208, 1.0F / 4096}, {}};
    case DType::kIQ4_XS:
      return {{0, 1.0F / 4096}, {}};
    case DType::kIQ2_XXS:
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
      return {{0, 1.0F / 128}, {}};
    case DType::kIQ3_XXS:
    case DType::kIQ3_S:
      return {{0, 1.0F / 512}, {}};
    case DType::kTQ1_0:
      return {{52, 1}, {}};
    case DType::kTQ2_0:
      return {{64, 1}, {}};
    default:
      return {};
  }
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
  RowChunks chunks(dtype, row);
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
      value = DecodeQ41(row, i);
    } else if (dtype == DType::kQ4_0) {
      const std::byte* block = row + i / 32 * 18;
      const int byte = std::to_integer<int>(block[2 + i % 16]);
      const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
      value = DecodeHalf(ReadU16(block)) * (nibble - 8);
    } else {
      const ChunkWeight weight = chunks.At(i);
      value = weight.scale * weight.quant + weight.offset;
    }
  }
  return out;
}

std::vector<double> WeightMagnitudes(DType dtype, const std::byte* row, int64_t n) {
  std::vector<double> out = DecodeRow(dtype, row, n);
  const int zero = ZeroPoint(dtype);
  RowChunks chunks(dtype, row);
  for (int64_t i = 0; i < n; ++i) {
    double& value = out[static_cast<size_t>(i)];
    value = std::fabs(value);
    if (!IsQuantised(dtype)) continue;
    const ChunkWeight weight = chunks.At(i);
    value = std::fabs(weight.scale * (weight.quant + zero)) +
            std::fabs(weight.offset - weight.scale * zero);
  }
  return out;
}

void RandomRow(DType dtype, int64_t n_cols, std::mt19937* rng, std::byte* out) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  std::uniform_real_distribution<float> uniform(-1, 1);
  if (!IsQuantised(dtype)) {
    for (int64_t i = 0; i < n_cols; ++i) {
      StoreFloat(dtype, uniform(*rng), out + i * info.block_bytes);
    }
    return;
  }
  const BlockFactors factors = FactorsOf(dtype);
  for (int64_t b = 0; b < n_cols / info.block_elems; ++b) {
    std::byte* const block = out + b * info.block_bytes;
    for (uint32_t i = 0; i < info.block_bytes; ++i) block[i] = static_cast<std::byte>((*rng)());
    for (const Factor& factor : {factors.scale, factors.offset}) {
      if (factor.most == 0) continue;
      StoreU16(F32ToF16(uniform(*rng) * factor.most), block + factor.at);
    }
    // Powers of two from 2^-7 to 2^-4.
    if (dtype == DType::kMXFP4) block[0] = static_cast<std::byte>(121 + (*rng)() % 4);
  }
}

void ExtremeRow(DType dtype, int64_t n_cols, std::byte value, std::mt19937* rng, std::byte* out) {
  RandomRow(dtype, n_cols, rng, out);
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const BlockFactors factors = FactorsOf(dtype);
  for (int64_t at = 0; at < RowBytes(dtype, n_cols); ++at) {
    const int64_t i = at % info.block_bytes;
    const auto is_factor = [i](const Factor& factor) {
      return factor.most != 0 && (i == factor.at || i == factor.at + 1);
    };
    const bool is_exponent = dtype == DType::kMXFP4 && i == 0;
    if (!is_factor(factors.scale) && !is_factor(factors.offset) && !is_exponent) out[at] = value;
  }
}

bool SpoilRow(DType dtype, int64_t n_cols, std::byte* row) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const Factor scale = FactorsOf(dtype).scale;
  if (IsQuantised(dtype) && scale.most == 0) return false;
  constexpr uint16_t kF16Nan = 0x7e00;
  for (int64_t b = 0; b < n_cols / info.block_elems; ++b) {
    std::byte* const block = row + b * info.block_bytes;
    if (IsQuantised(dtype)) {
      StoreU16(kF16Nan, block + scale.at);
    } else {
      StoreFloat(dtype, std::numeric_limits<float>::quiet_NaN(), block);
    }
  }
  return true;
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

std::vector<double> SuperQuantisedActivations(const std::vector<float>& x,
                                              std::vector<float>* rest) {
  std::vector<double> out(x.size());
  if (rest != nullptr) *rest = x;
  const auto largest_of = [&](size_t begin, size_t end) {
    float largest = 0;
    for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(x[i]));
    return largest;
  };
  for (size_t b = 0; b < x.size(); b += 256) {
    const float scale = largest_of(b, std::min(b + 256, x.size())) / 127.0F / 127.0F;
    if (scale == 0) continue;
    for (size_t c = b; c < std::min(b + 256, x.size()); c += 32) {
      const float wanted = std::ceil(largest_of(c, c + 32) / 127.0F / scale);
      const float factor = std::clamp(wanted, 1.0F, 127.0F);
      const float step = scale * factor;
      const float inverse = 1.0F / step;
      for (size_t i = c; i < c + 32; ++i) {
        const double q = std::nearbyint(x[i] * inverse);
        out[i] = q * static_cast<double>(factor) * static_cast<double>(scale);
        if (rest != nullptr) {
          (*rest)[i] =
              static_cast<float>(static_cast<double>(x[i]) - static_cast<double>(step) * q);
        }
      }
    }
  }
  return out;
}

}  // namespace thermocline::testing
