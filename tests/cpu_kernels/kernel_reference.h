// What tests of the CPU kernels share: matrices and prepared vectors in memory that ends at an
// inaccessible page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "tests/support/weight_reference.h"

namespace thermocline::testing {

// Returns "avx512_vnni", or "avx512_vnni_16_bits" with activations of 16, for the names of
// parametrised tests.
std::string TableName(const KernelTable& table);

// All tables, each with activations of 8 and of 16 bits.
std::vector<const KernelTable*> TablesOfAllBits();

Tolerance DotTolerance(DType dtype, VectorForm form);
// Returns the activations that a form in int8 stands for (kF32, kBF16: x itself), with activations
// of 8 or 16 bits.
std::vector<double> EffectiveActivations(VectorForm form, const std::vector<float>& x,
                                         int activation_bits = 8);

// The same of products of batches (cpu_kernels/gemm.h).
bool TakesInt8(GemmForm form);
Tolerance GemmTolerance(GemmForm form);
// Returns the most that fixed point of 16 bits (GemmForm::kI16) can be off.
double FixedPointBound(const std::vector<double>& w, const std::vector<double>& x);
// Rounds to the nearest bf16, ties to even.
double RoundToBf16(double value);
std::vector<double> GemmActivations(GemmForm form, const std::vector<float>& x,
                                    int activation_bits = 8);

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
  // Rows of a quantised type without padding, whose integers are all bytes of this value.
  Matrix(DType dtype, int64_t n_rows, int64_t n_cols, std::byte value, std::mt19937* rng);

  DType dtype() const { return dtype_; }
  int64_t n_rows() const { return n_rows_; }
  int64_t n_cols() const { return n_cols_; }
  int64_t stride() const { return stride_; }
  const std::byte* data() const { return bytes_.data(); }
  const std::byte* row(int64_t r) const { return data() + r * stride_; }
  const std::vector<double>& decoded(int64_t r) const { return Once(&decoded_, r, DecodeRow); }
  // WeightMagnitudes of a row.
  const std::vector<double>& magnitudes(int64_t r) const {
    return Once(&magnitudes_, r, WeightMagnitudes);
  }

 private:
  // Rows that are yet to be written.
  Matrix(DType dtype, int64_t n_rows, int64_t n_cols, int64_t padding_bytes);
  std::byte* out(int64_t r) { return bytes_.data() + r * stride_; }
  using Rows = std::vector<std::vector<double>>;
  using Read = std::vector<double> (*)(DType dtype, const std::byte* row, int64_t n);
  const std::vector<double>& Once(Rows* rows, int64_t r, Read read) const;

  DType dtype_;
  int64_t n_rows_;
  int64_t n_cols_;
  int64_t stride_;
  GuardedBytes bytes_;
  // What was asked for so far.
  mutable Rows decoded_;
  mutable Rows magnitudes_;
};

// What one output of a product of batches is summed from: its weights as a form rounds them, and
// what the roundings of their products are relative to. The output is a row of `w`, or a column.
struct OutputWeights {
  std::vector<double> values;
  std::vector<double> relative_to;
};
OutputWeights GemmWeights(GemmForm form, const Matrix& w, bool by_rows, int64_t output);

struct DotReference {
  double value;
  double magnitudes;  // the sum of |x| times what roundings are relative to
};
DotReference ReferenceDot(const std::vector<double>& weights,
                          const std::vector<double>& relative_to, const std::vector<double>& x);

// Returns numbers of columns that a type allows, odd ones where it does.
std::vector<int64_t> ColumnCounts(DType dtype);

// Returns lists over [0, n): none, all, scattered, runs.
std::vector<std::vector<int32_t>> RowLists(int64_t n, std::mt19937* rng);

}  // namespace thermocline::testing
