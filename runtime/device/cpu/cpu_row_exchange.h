// Rows that come into memory of the host while passes run.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/row_exchange.h"

namespace thermocline {

class CpuRowExchange final : public RowExchange {
 public:
  explicit CpuRowExchange(const RowExchangeLimits& limits);
  static uint64_t Bytes(const RowExchangeLimits& limits);

  void StageRow(const TensorView& matrix, int64_t row, const std::byte* source) override;
  void StageFloat(const float* at, float value) override;
  void Send() override {}
  void Commit() override;

 private:
  struct Move {
    std::byte* to;
    uint64_t from;  // in staged_
    uint64_t n_bytes;
  };
  void Stage(const void* to, const void* source, uint64_t n_bytes);

  size_t max_moves_;
  AlignedBuffer staged_;
  uint64_t used_ = 0;
  std::vector<Move> moves_;
};

}  // namespace thermocline
