// Matrices for tests of GPU kernels: random weights as a file stores them, what they stand for, and
// the packed copy on the GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/weight_layout.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/support/weight_reference.h"

namespace thermocline {

class TestMatrix {
 public:
  // Rows lie `padding_bytes` apart in the file's layout.
  TestMatrix(DType dtype, int64_t rows, int64_t cols, uint32_t seed, int64_t padding_bytes = 2);

  // Every weight of the row becomes NaN. REQUIRES: HasNan(dtype).
  void SpoilRow(int64_t row);
  void Upload(Stream& stream);

  const GpuMatrix& gpu() const { return gpu_; }  // behind Upload()
  DType dtype() const { return dtype_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t stride_bytes() const { return stride_bytes_; }
  const std::byte* file_row(int64_t row) const { return file_.data() + row * stride_bytes_; }
  const std::vector<double>& row(int64_t row) const { return decoded_[static_cast<size_t>(row)]; }
  // WeightMagnitudes of a row.
  const std::vector<double>& magnitudes(int64_t row) const {
    return magnitudes_[static_cast<size_t>(row)];
  }
  // Packed on the host.
  std::vector<std::byte> Packed() const;

 private:
  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  int64_t stride_bytes_;
  std::vector<std::byte> file_;
  std::vector<std::vector<double>> decoded_;
  std::vector<std::vector<double>> magnitudes_;
  std::optional<OnDevice<std::byte>> memory_;
  GpuMatrix gpu_;
};

// n_tokens vectors, prepared on the GPU, and what a matrix of a type sees of them.
class TestVectors {
 public:
  TestVectors(Stream& stream, int64_t cols, int64_t n_tokens, uint32_t seed);

  const GpuVectors& gpu() const { return gpu_; }
  std::vector<double> Seen(DType weights, int64_t token) const;

 private:
  int64_t cols_;
  std::vector<float> x_;
  OnDevice<float> x_memory_;
  DeviceMemory memory_;
  GpuVectors gpu_;
};

struct Expected {
  double value = 0;
  double error = 0;  // that f32 sums may have
};
// The product of a row and a vector, as DotRows sums it: per lane a chain, then a few additions.
Expected ExpectedDot(const TestMatrix& w, int64_t row, const std::vector<double>& x);

// Numbers of columns that a type allows, odd ones where it does, from one step of a warp to
// several.
std::vector<int64_t> MatrixCols(DType dtype);
// Types that have kernels of their own: of those that share them, one.
std::vector<DType> KernelTypes();
// Whether weights of the type can be NaN.
bool HasNan(DType dtype);

}  // namespace thermocline
