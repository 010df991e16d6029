// A KV cache on the GPU for tests, and what is in it.
#pragma once

#include <cstring>

#include "gpu_kernels/tokens/kv_planes.h"
#include "runtime/core/half.h"
#include "tests/gpu_kernels/gpu_test.h"

namespace thermocline {

template <typename T>
std::vector<T> ReadFrom(Stream& stream, const void* from, int64_t n) {
  std::vector<T> values(static_cast<size_t>(n));
  stream.Copy(values.data(), from, values.size() * sizeof(T));
  stream.Synchronize();
  return values;
}

// Keys or values of a layer: one of its two planes as it lies in memory.
struct KvImage {
  DType dtype;
  int64_t head_dim;
  int64_t n_slots;
  std::vector<uint16_t> f16;
  std::vector<int8_t> quants;
  std::vector<uint16_t> scales;

  size_t At(int64_t head, int64_t slot) const {
    return static_cast<size_t>((head * n_slots + slot) * head_dim);
  }
  // Element i of a row, exactly.
  double Decode(int64_t head, int64_t slot, int64_t i) const {
    const size_t at = At(head, slot) + static_cast<size_t>(i);
    if (dtype == DType::kF16) return double{F16ToF32(f16[at])};
    return double{F16ToF32(scales[at / kQuantBlock])} * quants[at];
  }
};

inline KvImage ReadPlane(Stream& stream, const GpuKvLayer& kv, const void* plane,
                         const uint16_t* scales) {
  const int64_t n = kv.n_kv_heads * kv.n_slots * kv.head_dim;
  KvImage image{kv.dtype, kv.head_dim, kv.n_slots, {}, {}, {}};
  if (kv.dtype == DType::kF16) {
    image.f16 = ReadFrom<uint16_t>(stream, plane, n);
  } else {
    image.quants = ReadFrom<int8_t>(stream, plane, n);
    image.scales = ReadFrom<uint16_t>(stream, scales, n / kQuantBlock);
  }
  return image;
}
inline KvImage ReadKeys(Stream& stream, const GpuKvLayer& kv) {
  return ReadPlane(stream, kv, kv.k, kv.k_scales);
}
inline KvImage ReadValues(Stream& stream, const GpuKvLayer& kv) {
  return ReadPlane(stream, kv, kv.v, kv.v_scales);
}

}  // namespace thermocline
