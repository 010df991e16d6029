// Weights to time kernels on: a large matrix whose rows repeat a few random ones, and the check
// that a kernel computes the right thing on them before its time means anything.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"

namespace thermocline {

inline constexpr int64_t kDistinctRows = 7;  // row r is the same as row r - kDistinctRows

class BenchWeights {
 public:
  // Makes about n_bytes of rows of n_cols weights.
  BenchWeights(DType dtype, int64_t n_cols, uint64_t n_bytes);

  DType dtype() const { return dtype_; }
  int64_t n_cols() const { return n_cols_; }
  int64_t n_rows() const { return n_rows_; }
  int64_t stride_bytes() const { return stride_bytes_; }
  uint64_t n_bytes() const { return buffer_.size(); }
  const std::byte* data() const { return static_cast<const std::byte*>(buffer_.data()); }
  const std::vector<float>& x() const { return x_; }         // (n_cols)
  const void* prepared() const { return prepared_.data(); }  // x as matvec wants it

  // Returns row r, decoded.
  const std::vector<float>& distinct(int64_t r) const {
    return distinct_[static_cast<size_t>(r % kDistinctRows)];
  }

  // Aborts with a message when matvec or accumulate_rows of the table in use is wrong on these
  // weights. The derived tolerances are in tests/cpu_kernels; here the bounds only tell broken from
  // rounded.
  void verify() const;

 private:
  void verify_matvec() const;
  void verify_accumulate() const;

  DType dtype_;
  int64_t n_cols_;
  int64_t stride_bytes_;
  int64_t n_rows_;
  AlignedBuffer buffer_;
  AlignedBuffer prepared_;
  std::vector<float> x_;
  std::vector<std::vector<float>> distinct_;  // the rows that repeat, decoded
};

// Returns verified weights of this shape. There is one set at a time: they fill much of a small
// machine's memory, so what an earlier call returned is gone.
const BenchWeights& SharedBenchWeights(DType dtype, int64_t n_cols, uint64_t n_bytes);

}  // namespace thermocline
