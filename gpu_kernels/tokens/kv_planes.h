// Keys and values of all sequences, in device memory. The values are those of the CPU's cache
// (runtime/device/kv_cache.h); q8_0 is laid out anew, because blocks of 34 bytes allow no wide
// load: quants and scales lie in planes of their own.
//
// The cache is a pool of pages of kGpuKvPageTokens positions (PagedAttention, arXiv:2309.06180),
// for layers that look back equally far. Which page holds which positions of which sequence is said
// by the pass (gpu_kernels/base/pass_inputs.h). Position p of a sequence lies in slot page *
// kGpuKvPageTokens + p % kGpuKvPageTokens of each head.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "runtime/core/dtype.h"

namespace thermocline {

inline constexpr int kGpuKvPageTokens = 32;
inline constexpr int64_t kMaxGpuHeadDim = 256;

// One layer's part. Values: (n_kv_heads, n_slots, head_dim), f16 or int8, 16-byte aligned; scales
// of q8_0, else null: (n_kv_heads, n_slots, head_dim / 32) f16.
struct GpuKvLayer {
  DType dtype = DType::kF16;  // kF16 or kQ8_0
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t n_slots = 0;
  void* k = nullptr;
  void* v = nullptr;
  uint16_t* k_scales = nullptr;
  uint16_t* v_scales = nullptr;
};

class GpuKvCache {
 public:
  struct Shape {
    DType dtype;
    int64_t n_layers;
    int64_t n_kv_heads;
    int64_t head_dim;
    int64_t n_slots;  // kGpuKvPageTokens a page
  };
  // Contents are undefined until appended. Throws Error when the memory is not there, when the type
  // is neither f16 nor q8_0, or when head_dim is over kMaxGpuHeadDim or no multiple of 8 (f16) or
  // 32 (q8_0).
  explicit GpuKvCache(const Shape& shape);
  // Returns the cache's bytes: as many as the CPU's cache of that shape has.
  static uint64_t Bytes(const Shape& shape);

  GpuKvLayer Layer(int64_t layer) const;
  // Enqueues the copy of a page, in all layers and heads. REQUIRES: both are pages of n_slots.
  void CopyPage(Stream& stream, int64_t from, int64_t to) const;
  // The same of a slot.
  void CopySlot(Stream& stream, int64_t from, int64_t to) const;
  // A page in host memory: its values, plane by plane (layer, keys or values, head), then scales.
  uint64_t PageBytes() const;
  // Wait until the copy is made.
  void ReadPage(Stream& stream, int64_t page, std::byte* to) const;
  void WritePage(Stream& stream, int64_t page, const std::byte* from) const;

 private:
  // Calls visit(device memory, n_bytes) for each plane's part of a page, in that order.
  template <typename Visit>
  void VisitPage(int64_t page, const Visit& visit) const;

  Shape shape_;
  DeviceMemory values_;  // (n_layers, 2, n_kv_heads, n_slots, head_dim)
  DeviceMemory scales_;  // (n_layers, 2, n_kv_heads, n_slots, head_dim / 32)
};

}  // namespace thermocline
