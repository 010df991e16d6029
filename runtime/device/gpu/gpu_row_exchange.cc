#include "runtime/device/gpu/gpu_row_exchange.h"

#include <algorithm>
#include <cstring>

#include "gpu_kernels/products/weight_layout.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/gpu/gpu_rows.h"

namespace thermocline {
namespace {

constexpr uint64_t kGrain = 16;  // what rows lie at multiples of

uint64_t TableBytes(const RowExchangeLimits& limits) {
  return static_cast<uint64_t>(limits.max_rows) * sizeof(GpuRowMove);
}

uint64_t RowBytesAtMost(const RowExchangeLimits& limits) {
  uint64_t most = std::max<uint64_t>(limits.other_row_bytes, sizeof(float));
  for (const DType dtype : limits.dtypes) {
    most = std::max(most, static_cast<uint64_t>(GpuRowBytes(dtype, limits.cols)));
  }
  return most + kGrain;
}

}  // namespace

uint64_t GpuRowExchange::DeviceBytes(const RowExchangeLimits& limits) {
  return TableBytes(limits) + static_cast<uint64_t>(limits.max_rows) * RowBytesAtMost(limits);
}

GpuRowExchange::GpuRowExchange(GpuDevice& gpu, const RowExchangeLimits& limits)
    : gpu_(gpu),
      limits_(limits),
      staging_(DeviceBytes(limits), "neurons that move"),
      data_(DeviceBytes(limits), "neurons that move"),
      used_(TableBytes(limits)) {}

// The device's stream may still read data_.
GpuRowExchange::~GpuRowExchange() {
  try {
    if (committed_) consumed_.Synchronize();
  } catch (const Error&) {
    committed_ = false;  // the device has failed, and the pass that saw it has said so
  }
}

std::byte* GpuRowExchange::Stage(const void* to, uint64_t n_bytes) {
  CHECK(n_moves_ < limits_.max_rows && used_ + n_bytes <= staging_.size());
  const auto* const from = reinterpret_cast<const uint32_t*>(data_.as<std::byte>() + used_);
  // The destination is memory of the device's own, which views show as constant.
  auto* const place = static_cast<uint32_t*>(const_cast<void*>(to));
  const auto n_words = static_cast<int64_t>(n_bytes / sizeof(uint32_t));
  staging_.host<GpuRowMove>()[n_moves_++] = {from, place, n_words};
  std::byte* const room = staging_.host<std::byte>() + used_;
  used_ += (n_bytes + kGrain - 1) / kGrain * kGrain;
  return room;
}

void GpuRowExchange::StageRow(const TensorView& matrix, int64_t row, const std::byte* source) {
  const TensorView one{source, matrix.dtype, 1, matrix.cols, 0};
  PackGpuRow(one, 0, Stage(matrix.row(row), static_cast<uint64_t>(matrix.row_stride_bytes)));
}

void GpuRowExchange::StageFloat(const float* at, float value) {
  std::memcpy(Stage(at, sizeof value), &value, sizeof value);
}

void GpuRowExchange::Send() {
  if (n_moves_ == 0) return;
  if (committed_) copies_.Wait(consumed_);
  copies_.Copy(data_.as<void>(), staging_.device<void>(), used_);
  copies_.Synchronize();
}

void GpuRowExchange::Commit() {
  GpuMoveRows(gpu_.stream(), data_.as<GpuRowMove>(), n_moves_);
  gpu_.stream().Record(consumed_);
  committed_ = true;
  n_moves_ = 0;
  used_ = TableBytes(limits_);
}

}  // namespace thermocline
