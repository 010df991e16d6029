#include "runtime/device/cpu/cpu_row_exchange.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/error.h"

namespace thermocline {

uint64_t CpuRowExchange::Bytes(const RowExchangeLimits& limits) {
  uint64_t most = std::max<uint64_t>(limits.other_row_bytes, sizeof(float));
  for (const DType dtype : limits.dtypes) {
    most = std::max(most, static_cast<uint64_t>(RowBytes(dtype, limits.cols)));
  }
  return static_cast<uint64_t>(limits.max_rows) * most;
}

CpuRowExchange::CpuRowExchange(const RowExchangeLimits& limits)
    : max_moves_(static_cast<size_t>(limits.max_rows)),
      staged_(Bytes(limits), "neurons that move") {
  moves_.reserve(max_moves_);
}

void CpuRowExchange::Stage(const void* to, const void* source, uint64_t n_bytes) {
  CHECK(moves_.size() < max_moves_ && used_ + n_bytes <= staged_.size());
  std::memcpy(staged_.bytes() + used_, source, n_bytes);
  // The destination is memory of the device's own, which views show as constant.
  moves_.push_back({static_cast<std::byte*>(const_cast<void*>(to)), used_, n_bytes});
  used_ += n_bytes;
}

void CpuRowExchange::StageRow(const TensorView& matrix, int64_t row, const std::byte* source) {
  Stage(matrix.row(row), source, static_cast<uint64_t>(RowBytes(matrix.dtype, matrix.cols)));
}

void CpuRowExchange::StageFloat(const float* at, float value) { Stage(at, &value, sizeof value); }

void CpuRowExchange::Commit() {
  for (const Move& move : moves_) {
    std::memcpy(move.to, staged_.bytes() + move.from, move.n_bytes);
  }
  moves_.clear();
  used_ = 0;
}

}  // namespace thermocline
