// The down projection, from columns to rows. Tiles of 32 neurons: their columns are gathered from
// all d_model rows of the file, then each neuron's column is stored (and quantised along d_model)
// as one row.
#include <algorithm>
#include <cmath>

#include "cpu_kernels/kernels.h"
#include "runtime/core/checked_math.h"
#include "runtime/load/weights.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

struct SquaredSums {
  double error = 0;
  double weights = 0;
  double max_abs_error = 0;
};

class Transposer {
 public:
  Transposer(const TensorView& down, const std::vector<int32_t>& order, DType stored,
             std::byte* out, int64_t out_stride_bytes)
      : down_(down),
        stored_(stored),
        out_(out),
        out_stride_bytes_(out_stride_bytes),
        position_(order.size()) {
    for (size_t i = 0; i < order.size(); ++i) {
      position_[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    }
    exact_ = IsExact(down.dtype, stored);
  }

  // Moving a weight as it is changes nothing; a block's weights share a scale with new neighbours.
  static bool IsExact(DType from, DType stored) {
    return GetDTypeInfo(stored).block_elems == 1 && (stored == from || stored == DType::kF32);
  }

  int64_t n_tiles() const { return CeilDiv(down_.cols, kQuantBlock); }

  // What one thread needs.
  struct Scratch {
    std::vector<float> tile;   // (32, d_model)
    std::vector<float> check;  // (d_model)
  };

  SquaredSums RunTile(int64_t tile_index, Scratch& scratch) {
    auto& [tile, check] = scratch;
    tile.resize(static_cast<size_t>(kQuantBlock * down_.rows));
    check.resize(static_cast<size_t>(down_.rows));
    const KernelTable& kernels = CpuKernels();
    const int64_t first = tile_index * kQuantBlock;
    const int64_t last = std::min<int64_t>(first + kQuantBlock, down_.cols);
    float columns[kQuantBlock];
    for (int64_t r = 0; r < down_.rows; ++r) {
      kernels.dequantize_f32(down_.dtype, down_.row(r), first, last, columns);
      for (int64_t i = 0; i < last - first; ++i) {
        tile[static_cast<size_t>(i * down_.rows + r)] = columns[i];
      }
    }
    SquaredSums sums;
    for (int64_t i = 0; i < last - first; ++i) {
      const float* row = tile.data() + i * down_.rows;
      std::byte* out = out_ + position_[static_cast<size_t>(first + i)] * out_stride_bytes_;
      QuantizeRow(stored_, row, down_.rows, out);
      if (exact_) continue;
      kernels.dequantize_f32(stored_, out, 0, down_.rows, check.data());
      for (int64_t c = 0; c < down_.rows; ++c) {
        const double difference = static_cast<double>(check[static_cast<size_t>(c)]) - row[c];
        sums.error += difference * difference;
        sums.weights += static_cast<double>(row[c]) * row[c];
        sums.max_abs_error = std::max(sums.max_abs_error, std::abs(difference));
      }
    }
    return sums;
  }

 private:
  const TensorView& down_;
  DType stored_;
  std::byte* out_;
  int64_t out_stride_bytes_;
  std::vector<int64_t> position_;  // of each neuron in the order
  bool exact_ = true;
};

}  // namespace

RequantReport TransposeDown(const TensorView& down, const std::vector<int32_t>& order, DType stored,
                            std::byte* out, int64_t out_stride_bytes, int n_threads) {
  Transposer transposer(down, order, stored, out, out_stride_bytes);
  std::vector<SquaredSums> sums(static_cast<size_t>(transposer.n_tiles()));
  std::vector<Transposer::Scratch> scratch(static_cast<size_t>(n_threads));
  ParallelFor(transposer.n_tiles(), 1, n_threads, [&](int thread, int64_t t, int64_t) {
    sums[static_cast<size_t>(t)] = transposer.RunTile(t, scratch[static_cast<size_t>(thread)]);
  });
  SquaredSums total;
  for (const SquaredSums& s : sums) {
    total.error += s.error;
    total.weights += s.weights;
    total.max_abs_error = std::max(total.max_abs_error, s.max_abs_error);
  }
  return {.requantised = !Transposer::IsExact(down.dtype, stored),
          .relative_rms_error = total.weights > 0 ? std::sqrt(total.error / total.weights) : 0,
          .max_abs_error = total.max_abs_error};
}

}  // namespace thermocline
