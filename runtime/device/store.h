// What lies in a device's memory: weights, buffers, the KV cache.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/core/tensor_view.h"
#include "runtime/device/kv_cache.h"
#include "runtime/model/model.h"

namespace thermocline {

class RowExchange;
struct RowExchangeLimits;

class DeviceStore {
 public:
  virtual ~DeviceStore() = default;

  // Memory that lives as long as the device; zero-filled. Throws Error naming `purpose`.
  virtual void* Allocate(uint64_t n_bytes, const std::string& purpose) = 0;
  // Copies from host memory into memory of this device.
  virtual void Upload(void* destination, const void* source, uint64_t n_bytes) = 0;
  virtual uint64_t allocated_bytes() const = 0;
  // A matrix in memory of this device, in the form its kernels want: these rows of `source` in
  // their order, or all of them where `rows` is empty. source: in host memory, in a file's form.
  virtual TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                               const std::string& purpose) = 0;
  // For neurons that move between devices while a model runs (row_exchange.h).
  virtual std::unique_ptr<RowExchange> MakeRowExchange(const RowExchangeLimits& limits) = 0;
  // Room for the keys and values of all sequences, of the classes that are on this tier. Throws
  // Error when the memory is not there, or when the type does not go with head_dim.
  virtual std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                               const KvLayout& layout, size_t tier) = 0;
};

}  // namespace thermocline
