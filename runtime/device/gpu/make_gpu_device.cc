#include "runtime/device/gpu/make_gpu_device.h"

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/products/weight_layout.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/gpu/gpu_row_exchange.h"
#include "runtime/device/gpu/gpu_weight_stream.h"

namespace thermocline {
namespace {

GpuDeviceLimits LimitsOf(const FastTierNeeds& needs) {
  return {.max_tokens = needs.max_tokens,
          .max_seq_len = needs.max_seq_len,
          .max_neurons = needs.max_neurons,
          .max_sequences = needs.max_sequences,
          .max_best_rows = needs.max_best_rows,
          .n_kv_classes = needs.n_kv_classes,
          .predicts = needs.predicts,
          .max_rank = needs.max_rank,
          .n_adapters = needs.n_adapters,
          .adapter_rank = needs.adapter_rank,
          .cuts = needs.cuts,
          .by_column = needs.by_column};
}

WeightStreamBytes StreamBytes(const FastTierNeeds& needs) {
  if (needs.max_streamed_neurons == 0) return {};
  return GpuWeightStream::Bytes({.max_tokens = needs.max_tokens,
                                 .d_model = needs.config->d_model,
                                 .max_neurons = needs.max_streamed_neurons,
                                 .piece_bytes = needs.stream_piece_bytes});
}

}  // namespace

std::unique_ptr<Device> MakeGpuDevice(const std::string& name, const FastTierNeeds& needs) {
  return std::make_unique<GpuDevice>(name, *needs.config, LimitsOf(needs));
}

uint64_t GpuFreeBytes() { return QueryDeviceMemory().free_bytes; }

uint64_t GpuScratchBytes(const FastTierNeeds& needs) {
  return GpuDevice::ScratchBytes(*needs.config, LimitsOf(needs)) + StreamBytes(needs).device;
}

uint64_t GpuPinnedBytes(const FastTierNeeds& needs) { return StreamBytes(needs).pinned; }

uint64_t GpuExchangeBytes(const RowExchangeLimits& limits) {
  return GpuRowExchange::DeviceBytes(limits);
}

uint64_t GpuMatrixBytes(DType dtype, int64_t rows, int64_t cols) {
  return static_cast<uint64_t>(rows * GpuRowBytes(dtype, cols));
}

}  // namespace thermocline
