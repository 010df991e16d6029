// What lies in a GPU's memory and how it gets there.
#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/gpu/gpu_handover.h"
#include "runtime/device/gpu/gpu_row_exchange.h"
#include "runtime/device/gpu/gpu_rows.h"
#include "runtime/device/gpu/gpu_weight_stream.h"
#include "runtime/model/rope.h"

namespace thermocline {

void* GpuDevice::Allocate(uint64_t n_bytes, const std::string& purpose) {
  memory_.emplace_back(std::max<uint64_t>(n_bytes, 1), purpose);
  stream_.Fill(memory_.back().as<void>(), 0, memory_.back().size());
  allocated_bytes_ += n_bytes;
  return memory_.back().as<void>();
}

void GpuDevice::Upload(void* destination, const void* source, uint64_t n_bytes) {
  ForgetPrepared();
  auto* to = static_cast<std::byte*>(destination);
  const auto* from = static_cast<const std::byte*>(source);
  for (uint64_t done = 0; done < n_bytes; done += staging_.size()) {
    const uint64_t part = std::min(n_bytes - done, staging_.size());
    std::memcpy(staging_.host<std::byte>(), from + done, part);
    stream_.Copy(to + done, staging_.device<std::byte>(), part);
    stream_.Synchronize();
  }
}

void GpuDevice::Download(void* destination, const void* source, uint64_t n_bytes) {
  auto* to = static_cast<std::byte*>(destination);
  const auto* from = static_cast<const std::byte*>(source);
  for (uint64_t done = 0; done < n_bytes; done += staging_.size()) {
    const uint64_t part = std::min(n_bytes - done, staging_.size());
    stream_.Copy(staging_.device<std::byte>(), from + done, part);
    stream_.Synchronize();
    std::memcpy(to + done, staging_.host<std::byte>(), part);
  }
  CountTraffic(BusLoad::kResults, n_bytes);
}

TensorView GpuDevice::StoreRows(const TensorView& source, std::span<const int32_t> rows,
                                const std::string& purpose) {
  const int64_t n = rows.empty() ? source.rows : static_cast<int64_t>(rows.size());
  const int64_t row_bytes = GpuRowBytes(source.dtype, source.cols);
  auto* memory = static_cast<std::byte*>(Allocate(static_cast<uint64_t>(n * row_bytes), purpose));
  const int64_t at_once = static_cast<int64_t>(staging_.size()) / row_bytes;
  CHECK(at_once > 0);
  for (int64_t first = 0; first < n; first += at_once) {
    const int64_t last = std::min(first + at_once, n);
    for (int64_t i = first; i < last; ++i) {
      const int64_t row = rows.empty() ? i : rows[static_cast<size_t>(i)];
      PackGpuRow(source, row, staging_.host<std::byte>() + (i - first) * row_bytes);
    }
    stream_.Copy(memory + first * row_bytes, staging_.device<std::byte>(),
                 static_cast<uint64_t>((last - first) * row_bytes));
    stream_.Synchronize();
  }
  return {memory, source.dtype, n, source.cols, row_bytes};
}

// In the host's memory, read over the bus row by row: a token needs one row.
TensorView GpuDevice::StoreTable(const TensorView& source) {
  const int64_t row_bytes = GpuRowBytes(source.dtype, source.cols);
  tables_.emplace_back(static_cast<uint64_t>(row_bytes * source.rows), "a table of embeddings");
  host_bytes_ += tables_.back().size();
  for (int64_t r = 0; r < source.rows; ++r) {
    PackGpuRow(source, r, tables_.back().host<std::byte>() + r * row_bytes);
  }
  return {tables_.back().device<std::byte>(), source.dtype, source.rows, source.cols, row_bytes};
}

std::unique_ptr<Handover> GpuDevice::MakeHandover(int64_t max_tokens, int64_t d_model,
                                                  bool predictor_apart) {
  host_bytes_ +=
      static_cast<uint64_t>((predictor_apart ? 3 : 2) * max_tokens * d_model) * sizeof(float);
  return std::make_unique<GpuTierHandover>(*this, max_tokens, d_model, predictor_apart);
}

std::unique_ptr<RowExchange> GpuDevice::MakeRowExchange(const RowExchangeLimits& limits) {
  allocated_bytes_ += GpuRowExchange::DeviceBytes(limits);
  return std::make_unique<GpuRowExchange>(*this, limits);
}

std::unique_ptr<WeightStream> GpuDevice::MakeWeightStream(const WeightStreamLimits& limits) {
  auto stream = std::make_unique<GpuWeightStream>(*this, limits);
  const WeightStreamBytes bytes = GpuWeightStream::Bytes(limits);
  allocated_bytes_ += bytes.device;
  host_bytes_ += bytes.pinned;
  return stream;
}

GpuDevice::RopeTables GpuDevice::MakeRopeTables(const RopeConfig& rope) {
  const RopeAngles angles(rope);
  const int64_t n = angles.n_frequencies();
  std::vector<float> cos(static_cast<size_t>(limits_.max_seq_len * n));
  std::vector<float> sin(cos.size());
  for (int64_t p = 0; p < limits_.max_seq_len; ++p) {
    angles.Fill(p, cos.data() + p * n, sin.data() + p * n);
  }
  const uint64_t n_bytes = cos.size() * sizeof(float);
  const uint64_t room = std::max<uint64_t>(n_bytes, 1);  // where nothing turns
  RopeTables tables{DeviceMemory(room, "rotary angles"), DeviceMemory(room, "rotary angles")};
  Upload(tables.cos.as<void>(), cos.data(), n_bytes);
  Upload(tables.sin.as<void>(), sin.data(), n_bytes);
  return tables;
}

}  // namespace thermocline
