#include "tests/cpu_kernels/kernel_reference.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/core/error.h"

namespace thermocline::testing {

std::string TableName(const KernelTable& table) {
  std::string name(table.features);
  std::replace(name.begin(), name.end(), ' ', '_');
  if (table.activation_bits != 8) name += "_" + std::to_string(table.activation_bits) + "_bits";
  return name;
}

std::vector<const KernelTable*> TablesOfAllBits() {
  std::vector<const KernelTable*> tables;
  for (const int bits : {8, 16}) {
    for (const KernelTable* table : AvailableCpuKernels()) {
      tables.push_back(&KernelsOf(*table, bits));
    }
  }
  return tables;
}

Tolerance DotTolerance(DType dtype, VectorForm form) {
  if (IsQuantised(dtype)) return {.fixed = 10, .per_term = 1.0 / 32};
  // x = hi + lo leaves 2^-18 of x out: 64 * 2^-24.
  if (form == VectorForm::kBF16) return {.fixed = 64 + 10, .per_term = 1.0 / 8};
  return {.fixed = 10, .per_term = 1.0 / 8};
}

std::vector<double> EffectiveActivations(VectorForm form, const std::vector<float>& x,
                                         int activation_bits) {
  const bool is_int8 = form == VectorForm::kQ8 || form == VectorForm::kQ8Super;
  if (is_int8 && activation_bits == 16) {
    std::vector<float> rest(x.size());
    std::vector<double> sum;
    if (form == VectorForm::kQ8Super) {
      sum = SuperQuantisedActivations(x, &rest);
    } else {
      sum = QuantisedActivations(x);
      for (size_t i = 0; i < x.size(); ++i) rest[i] = static_cast<float>(x[i] - sum[i]);
    }
    const std::vector<double> rounded = EffectiveActivations(form, rest);
    for (size_t i = 0; i < x.size(); ++i) sum[i] += rounded[i];
    return sum;
  }
  if (form == VectorForm::kQ8) return QuantisedActivations(x);
  if (form == VectorForm::kQ8Super) return SuperQuantisedActivations(x);
  return {x.begin(), x.end()};
}

bool TakesInt8(GemmForm form) {
  return form == GemmForm::kQ8 || form == GemmForm::kQ8Offset || form == GemmForm::kQ8Wide ||
         form == GemmForm::kQ8Halves || form == GemmForm::kQ8Centred;
}

// An output is one chain of sums; integer products add one term per block.
Tolerance GemmTolerance(GemmForm form) {
  if (form == GemmForm::kI16) return {.fixed = 10, .per_term = 1.0 / kGemmBlock};
  if (form == GemmForm::kQ8Halves || form == GemmForm::kQ8Centred) {
    return {.fixed = 10, .per_term = 1.0 / 16};
  }
  return {.fixed = 10, .per_term = TakesInt8(form) ? 1.0 / 32 : 1.0};
}

// Each value is off by half a step of its block,
// whose norm is 32760 steps (weights) or 65500 of them and no value more than 32767 (activations).
double FixedPointBound(const std::vector<double>& w, const std::vector<double>& x) {
  double bound = 0;
  for (size_t begin = 0; begin < w.size(); begin += kGemmBlock) {
    const size_t end = std::min(w.size(), begin + kGemmBlock);
    double squares[2] = {};
    double sums[2] = {};
    double largest = 0;
    for (size_t i = begin; i < end; ++i) {
      squares[0] += w[i] * w[i];
      squares[1] += x[i] * x[i];
      sums[0] += std::fabs(w[i]);
      sums[1] += std::fabs(x[i]);
      largest = std::max(largest, std::fabs(x[i]));
    }
    const double w_step = std::sqrt(squares[0]) / 32760;
    const double x_step = std::max(std::sqrt(squares[1]) / 65500, largest / 32767);
    bound += 0.5 * (w_step * sums[1] + x_step * sums[0]) +
             0.25 * w_step * x_step * static_cast<double>(end - begin);
  }
  return bound * 1.01;  // half a step, and the rounding of the step itself
}

double RoundToBf16(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

std::vector<double> GemmActivations(GemmForm form, const std::vector<float>& x,
                                    int activation_bits) {
  if (TakesInt8(form)) return EffectiveActivations(VectorForm::kQ8, x, activation_bits);
  std::vector<double> out(x.begin(), x.end());
  if (form != GemmForm::kBF16) return out;
  for (double& value : out) value = RoundToBf16(value);
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

Matrix::Matrix(DType dtype, int64_t n_rows, int64_t n_cols, int64_t padding_bytes)
    : dtype_(dtype),
      n_rows_(n_rows),
      n_cols_(n_cols),
      stride_(RowBytes(dtype, n_cols) + padding_bytes),
      bytes_(static_cast<size_t>((n_rows - 1) * stride_ + RowBytes(dtype, n_cols))) {}

Matrix::Matrix(DType dtype, int64_t n_rows, int64_t n_cols, int64_t padding_bytes,
               std::mt19937* rng)
    : Matrix(dtype, n_rows, n_cols, padding_bytes) {
  for (int64_t r = 0; r < n_rows; ++r) {
    // Rows of blocks hold every pattern of bits, which rows of real weights do not have.
    const bool is_small = GetDTypeInfo(dtype).block_elems == kQuantBlock;
    if (IsQuantised(dtype) && (r % 2 == 0 || !is_small)) {
      RandomRow(dtype, n_cols, rng, out(r));
    } else {
      const std::vector<float> values = RandomFloats(rng, n_cols);
      QuantizeRow(dtype, values.data(), n_cols, out(r));
      if (dtype == DType::kQ8_0) out(r)[2 + r % 32] = std::byte{0x80};  // -128
    }
  }
}

Matrix::Matrix(DType dtype, int64_t n_rows, int64_t n_cols, std::byte value, std::mt19937* rng)
    : Matrix(dtype, n_rows, n_cols, int64_t{0}) {
  for (int64_t r = 0; r < n_rows; ++r) ExtremeRow(dtype, n_cols, value, rng, out(r));
}

const std::vector<double>& Matrix::Once(Rows* rows, int64_t r, Read read) const {
  rows->resize(static_cast<size_t>(n_rows_));
  std::vector<double>& values = (*rows)[static_cast<size_t>(r)];
  if (values.empty()) values = read(dtype_, row(r), n_cols_);
  return values;
}

OutputWeights GemmWeights(GemmForm form, const Matrix& w, bool by_rows, int64_t output) {
  OutputWeights weights;
  if (by_rows) {
    weights.values = w.decoded(output);
  } else {
    for (int64_t i = 0; i < w.n_rows(); ++i) {
      weights.values.push_back(w.decoded(i)[static_cast<size_t>(output)]);
    }
  }
  if (form == GemmForm::kBF16) {
    for (double& value : weights.values) value = RoundToBf16(static_cast<float>(value));
  }
  if (TakesInt8(form)) {
    weights.relative_to = w.magnitudes(output);
  } else {
    for (const double value : weights.values) weights.relative_to.push_back(std::fabs(value));
  }
  return weights;
}

DotReference ReferenceDot(const std::vector<double>& weights,
                          const std::vector<double>& relative_to, const std::vector<double>& x) {
  DotReference dot = {};
  for (size_t i = 0; i < x.size(); ++i) {
    dot.value += weights[i] * x[i];
    dot.magnitudes += relative_to[i] * std::fabs(x[i]);
  }
  return dot;
}

std::vector<int64_t> ColumnCounts(DType dtype) {
  if (GetDTypeInfo(dtype).block_elems == kSuperBlock) return {256, 512, 768, 2816};
  if (GetWeightTypeInfo(dtype).by_chunks) return {256, 768};
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
