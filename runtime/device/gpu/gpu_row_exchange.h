// Rows that come into a GPU's memory while passes run: packed in pinned memory, copied beside the
// weights on a stream of their own, and put in their places by one kernel on the passes' stream.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/row_moves.h"
#include "runtime/device/row_exchange.h"

namespace thermocline {

class GpuDevice;

class GpuRowExchange final : public RowExchange {
 public:
  // Throws Error when there is no memory. The device must outlive it.
  GpuRowExchange(GpuDevice& gpu, const RowExchangeLimits& limits);
  ~GpuRowExchange() override;
  static uint64_t DeviceBytes(const RowExchangeLimits& limits);

  void StageRow(const TensorView& matrix, int64_t row, const std::byte* source) override;
  void StageFloat(const float* at, float value) override;
  void Send() override;
  void Commit() override;

 private:
  // Room for n_bytes of the buffers, which go to `to`.
  std::byte* Stage(const void* to, uint64_t n_bytes);

  GpuDevice& gpu_;
  RowExchangeLimits limits_;
  MappedMemory staging_;  // moves, then what they move
  DeviceMemory data_;     // the same
  Stream copies_;
  Event consumed_;  // on the device's stream: data_ is free
  bool committed_ = false;
  int64_t n_moves_ = 0;
  uint64_t used_ = 0;
};

}  // namespace thermocline
