#include "tests/cpu_kernels/kernel_reference.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "runtime/core/error.h"

namespace thermocline::testing {
namespace {

uint16_t ReadU16(const std::byte* p) {
  uint16_t value = 0;
  std::memcpy(&value, p, 2);
  return value;
}

// Weight i of a row of Q6_K, as the format's description has it: the row's bits one after another.
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

}  // namespace

bool IsQuantised(DType dtype) { return GetDTypeInfo(dtype).block_elems > 1; }

int64_t WholeBlocks(DType dtype, int64_t n) {
  const int64_t block = GetDTypeInfo(dtype).block_elems;
  return (n + block - 1) / block * block;
}

std::string TableName(const KernelTable& table) {
  std::string name(table.features);
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

Tolerance DotTolerance(DType dtype, VectorForm form) {
  if (IsQuantised(dtype)) return {.fixed = 10, .per_term = 1.0 / 32};
  // x = hi + lo leaves 2^-18 of x out: 64 * 2^-24.
  if (form == VectorForm::kBF16) return {.fixed = 64 + 10, .per_term = 1.0 / 8};
  return {.fixed = 10, .per_term = 1.0 / 8};
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
    } else {
      const std::byte* block = row + i / 32 * 18;
      const int byte = std::to_integer<int>(block[2 + i % 16]);
      const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
      value = DecodeHalf(ReadU16(block)) * (nibble - 8);
    }
  }
  return out;
}

std::vector<float> RandomFloats(std::mt19937* rng, int64_t n, float scale) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& value : out) value = normal(*rng);
  return out;
}

std::vector<double> EffectiveActivations(VectorForm form, const std::vector<float>& x) {
  std::vector<double> out(x.begin(), x.end());
  if (form != VectorForm::kQ8) return out;
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

Prepared::Prepared(const KernelTable& kernels, VectorForm form, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  const int64_t bytes = kernels.prepared_bytes(form, n);
  CHECK(bytes % 64 == 0);
  constexpr std::byte kSentinel{0xa5};
  storage_.assign(static_cast<size_t>(bytes) + 128, kSentinel);
  const auto address = reinterpret_cast<uintptr_t>(storage_.data());
  data_ = storage_.data() + (64 - address % 64) % 64;
  kernels.prepare(form, x.data(), n, data_);
  for (int i = 0; i < 64; ++i) CHECK(data_[bytes + i] == kSentinel);
}

GuardedBytes::GuardedBytes(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t body = (bytes + page - 1) / page * page;
  map_bytes_ = body + page;
  map_ = mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(map_ != MAP_FAILED);
  CHECK(mprotect(static_cast<std::byte*>(map_) + body, page, PROT_NONE) == 0);
  data_ = static_cast<std::byte*>(map_) + body - bytes;
}

GuardedBytes::~GuardedBytes() { munmap(map_, map_bytes_); }

Matrix::Matrix(DType dtype, int64_t n_rows, int64_t n_cols, int64_t padding_bytes,
               std::mt19937* rng)
    : dtype_(dtype),
      n_rows_(n_rows),
      n_cols_(n_cols),
      stride_(RowBytes(dtype, n_cols) + padding_bytes),
      bytes_(static_cast<size_t>((n_rows - 1) * stride_ + RowBytes(dtype, n_cols))) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const std::vector<float> values = RandomFloats(rng, n_cols);
    QuantizeRow(dtype, values.data(), n_cols, bytes_.data() + r * stride_);
    if (dtype == DType::kQ8_0) bytes_.data()[r * stride_ + 2 + r % 32] = std::byte{0x80};  // -128
    // Every pattern of bits, which rows of real weights do not have.
    for (int64_t i = 0; dtype == DType::kQ6_K && r % 2 == 0 && i < RowBytes(dtype, n_cols); ++i) {
      if (i % 210 < 208) bytes_.data()[r * stride_ + i] = static_cast<std::byte>((*rng)());
    }
    decoded_.push_back(DecodeRow(dtype, bytes_.data() + r * stride_, n_cols));
  }
}

std::vector<int64_t> ColumnCounts(DType dtype) {
  if (dtype == DType::kQ6_K) return {256, 512, 768, 1024, 2816, 4096};
  if (IsQuantised(dtype)) {
    return {32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 992, 1024, 4096, 4128};
  }
  return {1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 172, 256, 1000, 1025, 2050};
}

std::vector<std::vector<int32_t>> RowLists(int64_t n, std::mt19937* rng) {
  std::vector<int32_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  std::vector<int32_t> scattered;
  std::vector<int32_t> runs;
  std::bernoulli_distribution coin(0.3);
  for (int32_t row : all) {
    if (coin(*rng)) scattered.push_back(row);
    if (row % 11 < 5) runs.push_back(row);
  }
  return {{}, all, scattered, runs, {static_cast<int32_t>(n - 1)}};
}

}  // namespace thermocline::testing
