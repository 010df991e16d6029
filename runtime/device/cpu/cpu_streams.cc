// Several residual streams on the CPU (AltUp, arXiv:2301.13310), and the layers' own embeddings.
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/device/cpu/cpu_device.h"

namespace thermocline {
namespace {

constexpr int64_t kColumns = 64;  // of a row that are mixed together
constexpr int64_t kMaxCoefs = kMaxStreams * kMaxStreams;

double MeanSquare(const float* x, int64_t d) {
  double sum = 0;
  for (int64_t i = 0; i < d; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum / static_cast<double>(d);
}

// Calls fn(c, at, columns) for the lane's share of n rows of d: some columns of row t from
// element `at` of a stream on, with the row's coefficients c: (n_c).
template <typename Fn>
void ForColumns(const Lane& lane, const StreamsOp& op, int64_t n_c, int64_t n, int64_t d,
                const Fn& fn) {
  DCHECK(op.n_streams <= kMaxStreams && n_c <= kMaxCoefs);
  std::array<float, kMaxCoefs> c;
  const int64_t blocks = (d + kColumns - 1) / kColumns;
  const auto [begin, end] = lane.Split(n * blocks);
  int64_t row = -1;
  for (int64_t b = begin; b < end; ++b) {
    const int64_t t = b / blocks;
    if (t != row) {
      const float* const route = op.route + t * op.n_streams;
      for (int64_t i = 0; i < n_c; ++i) {
        c[static_cast<size_t>(i)] = 0;
        for (int64_t j = 0; j < op.n_streams; ++j) {
          c[static_cast<size_t>(i)] += op.coef[i * op.n_streams + j] * route[j];
        }
      }
      row = t;
    }
    const int64_t first = b % blocks * kColumns;
    fn(c.data(), t * d + first, std::min(kColumns, d - first));
  }
}

}  // namespace

void CpuDevice::AddTableRows(const Lane& lane, const TensorView& table,
                             std::span<const int32_t> ids, float scale, float* x) {
  std::vector<float>& row = table_rows_[static_cast<size_t>(lane.rank)];
  row.resize(static_cast<size_t>(table.cols));
  const auto [begin, end] = lane.Split(static_cast<int64_t>(ids.size()));
  for (int64_t t = begin; t < end; ++t) {
    const int32_t id = ids[static_cast<size_t>(t)];
    DCHECK(id >= 0 && id < table.rows);
    kernels_.dequantize_f32(table.dtype, table.row(id), 0, table.cols, row.data());
    kernels_.scale(row.data(), table.cols, scale, 0);
    kernels_.add(x + t * table.cols, row.data(), table.cols);
  }
  lane.Sync();
}

void CpuDevice::MultiplyRows(const Lane& lane, const float* x, const float* by, int64_t n,
                             int64_t d, float* out) {
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    if (out != x) std::copy_n(x + t * d, d, out + t * d);
    kernels_.multiply(out + t * d, by, d);
  }
  lane.Sync();
}

void CpuDevice::ActivateMultiply(const Lane& lane, Activation activation, float* x, const float* by,
                                 int64_t by_stride, int64_t n, int64_t d) {
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    kernels_.activate(activation, x + t * d, d);
    kernels_.multiply(x + t * d, by + t * by_stride, d);
  }
  lane.Sync();
}

void CpuDevice::MatchRms(const Lane& lane, const float* like, int64_t n, int64_t d, float* x) {
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    const double own = std::max(MeanSquare(x + t * d, d), kLeastMeanSquare);
    const double factor = std::sqrt(MeanSquare(like + t * d, d) / own);
    kernels_.scale(x + t * d, d, static_cast<float>(factor), 0);
  }
  lane.Sync();
}

void CpuDevice::PredictStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                               float* x) {
  const int64_t s = op.n_streams;
  std::array<float, kMaxStreams * kColumns> old;
  ForColumns(lane, op, s * s, n, d, [&](const float* c, int64_t at, int64_t columns) {
    for (int64_t j = 0; j < s; ++j) {
      std::copy_n(op.streams + j * n * d + at, columns, old.data() + j * kColumns);
    }
    for (int64_t i = 0; i < s; ++i) {
      float* const stream = op.streams + i * n * d + at;
      for (int64_t j = 0; j < s; ++j) {
        const float factor = c[i * s + j];
        const float* const from = old.data() + j * kColumns;
        for (int64_t k = 0; k < columns; ++k) stream[k] += factor * from[k];
      }
    }
    std::copy_n(op.streams + op.active * n * d + at, columns, x + at);
  });
  lane.Sync();
}

void CpuDevice::CorrectStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                               const float* x) {
  std::array<float, kColumns> change;
  ForColumns(lane, op, op.n_streams, n, d, [&](const float* c, int64_t at, int64_t columns) {
    const float* const active = op.streams + op.active * n * d + at;
    for (int64_t k = 0; k < columns; ++k) change[static_cast<size_t>(k)] = x[at + k] - active[k];
    for (int64_t i = 0; i < op.n_streams; ++i) {
      const float factor = 1 + c[i];
      float* const stream = op.streams + i * n * d + at;
      for (int64_t k = 0; k < columns; ++k) stream[k] += factor * change[static_cast<size_t>(k)];
    }
  });
  lane.Sync();
}

}  // namespace thermocline
