// Low-rank adapters on the GPU (runtime/device/adapters.h): which adapters the rows of a pass use,
// and the scratch between A and B.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/low_rank.h"
#include "runtime/device/adapters.h"

namespace thermocline {

class GpuLowRank {
 public:
  struct Limits {
    int64_t max_tokens = 0;  // of a pass
    int64_t n_adapters = 0;
    int64_t total_rank = 0;  // of all of them
  };
  explicit GpuLowRank(const Limits& limits);
  static uint64_t Bytes(const Limits& limits);

  // Says, on the host, which of the next pass's n_rows use which adapters. REQUIRES: nothing that
  // was enqueued still reads the last one.
  void Set(const AdapterRows& rows, int64_t n_rows);
  // Enqueues its copy. Captured it serves every pass of as many rows. Returns the bytes that move.
  uint64_t Send(Stream& stream);

  // A matrix of every adapter, and the product that they add to.
  struct Product {
    std::vector<GpuLowRankFactors> factors;  // (n_adapters)
    float* out = nullptr;                    // (n_rows, d_out) f32 on the GPU
    int64_t d_out = 0;

    bool changes() const;  // some adapter adds something
  };
  template <typename Adapter>
  static Product MakeProduct(std::span<const Adapter> adapters, LowRankMatrix Adapter::*matrix,
                             float* out, int64_t d_out) {
    Product product{{}, out, d_out};
    for (const Adapter& adapter : adapters) {
      const LowRankMatrix& m = adapter.*matrix;
      product.factors.push_back({m.rank, m.a, m.b});
    }
    return product;
  }

  // Enqueues what GpuAddLowRank says, for the rows that were sent last. REQUIRES: at most
  // kMaxProducts, and what it requires.
  static constexpr size_t kMaxProducts = 3;
  void Add(Stream& stream, std::span<const Product> products, const float* x, int64_t d_in,
           GpuLowRankInto into);

 private:
  Limits limits_;
  MappedMemory host_words_;    // (n_adapters, words of a pass) u32
  DeviceMemory device_words_;  // the same
  DeviceMemory inner_;         // (kMaxProducts, max_tokens, total_rank) f32
  GpuAdapterRows rows_;
};

}  // namespace thermocline
