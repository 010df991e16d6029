// What the kernel tests compare with: weights decoded independently of the code under test, double
// arithmetic, and memory that ends at an inaccessible page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"

namespace thermocline::testing {

inline constexpr DType kDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                    DType::kQ8_0, DType::kQ6_K, DType::kQ4_0};

bool IsQuantised(DType dtype);
// The smallest number of columns, n or more, that rows of the type can have.
int64_t WholeBlocks(DType dtype, int64_t n);
// "avx512_vnni", for the names of parametrised tests.
std::string TableName(const KernelTable& table);

// |y - ref| <= (fixed + per_term * n) * 2^-24 * sum|w_i x_i| + 2^-23 * |ref| + 1e-30.
// fixed: roundings that one product goes through; per_term: additions in a chain, for n terms
// spread over the fewest partial sums of any kernel (8 lanes; one term per 32 weights for quantised
// types).
struct Tolerance {
  double fixed;
  double per_term;
};
Tolerance DotTolerance(DType dtype, VectorForm form);
double AllowedError(Tolerance tolerance, int64_t n, double sum_of_magnitudes, double reference);

double DecodeHalf(uint16_t bits);
// n weights of a row, exactly.
std::vector<double> DecodeRow(DType dtype, const std::byte* row, int64_t n);

std::vector<float> RandomFloats(std::mt19937* rng, int64_t n, float scale = 1.0F);

// The activations that VectorForm::kQ8 stands for (kF32, kBF16: x itself).
std::vector<double> EffectiveActivations(VectorForm form, const std::vector<float>& x);

// 64-byte aligned bytes of a prepared vector.
class Prepared {
 public:
  Prepared(const KernelTable& kernels, VectorForm form, const std::vector<float>& x);
  const void* data() const { return data_; }

 private:
  std::vector<std::byte> storage_;
  std::byte* data_;
};

// `bytes` bytes right before a page that faults when it is touched.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  std::byte* data() const { return data_; }

 private:
  void* map_;
  size_t map_bytes_;
  std::byte* data_;
};

// Rows of random weights; the last row ends at the guard page, so rows lie at odd addresses.
class Matrix {
 public:
  Matrix(DType dtype, int64_t n_rows, int64_t n_cols, int64_t padding_bytes, std::mt19937* rng);

  DType dtype() const { return dtype_; }
  int64_t n_rows() const { return n_rows_; }
  int64_t n_cols() const { return n_cols_; }
  int64_t stride() const { return stride_; }
  const std::byte* data() const { return bytes_.data(); }
  const std::byte* row(int64_t r) const { return data() + r * stride_; }
  const std::vector<double>& decoded(int64_t r) const { return decoded_[static_cast<size_t>(r)]; }

 private:
  DType dtype_;
  int64_t n_rows_;
  int64_t n_cols_;
  int64_t stride_;
  GuardedBytes bytes_;
  std::vector<std::vector<double>> decoded_;
};

// Numbers of columns that a type allows, odd ones where it does.
std::vector<int64_t> ColumnCounts(DType dtype);

// Lists over [0, n): none, all, scattered, runs.
std::vector<std::vector<int32_t>> RowLists(int64_t n, std::mt19937* rng);

}  // namespace thermocline::testing
