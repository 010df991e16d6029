// How the weights of each type are read with a vector unit V, for the templates that are written
// once for all types. Bytes: a float type's column c lies at c * kBytes; a quantised block b of
// kElems columns at b * kBytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_kernels/octet_unpack.h"
#include "runtime/core/dtype.h"

namespace thermocline {

// Types that are read as octets are decoded many columns at a time: to_floats(row, col, end, out).
template <class V, DType kType>
struct Weights {
  static_assert(kIsOctets<kType>, "say how a vector unit reads the type");
  static constexpr bool kBlocks = true;
  static constexpr bool kOctets = true;
  static constexpr int64_t kElems = kTypeBlockElems<kType>;
  static constexpr int64_t kBytes = kTypeBlockBytes<kType>;
  static void to_floats(const std::byte* row, int64_t col, int64_t col_end, float* out) {
    octets_to_floats<V, kType>(row, col, col_end, out);
  }
};

template <class W>
constexpr bool reads_octets() {
  return requires { W::kOctets; };
}

template <class V>
struct Weights<V, DType::kF32> {
  static constexpr bool kBlocks = false;
  static constexpr int64_t kBytes = 4;
  static typename V::Reg load(const std::byte* p) {
    return V::load(reinterpret_cast<const float*>(p));
  }
  static typename V::Reg load_n(const std::byte* p, int64_t n) {
    return V::load_n(reinterpret_cast<const float*>(p), n);
  }
};

template <class V>
struct Weights<V, DType::kF16> {
  static constexpr bool kBlocks = false;
  static constexpr int64_t kBytes = 2;
  static typename V::Reg load(const std::byte* p) { return V::load_f16(p); }
  static typename V::Reg load_n(const std::byte* p, int64_t n) { return V::load_f16_n(p, n); }
};

template <class V>
struct Weights<V, DType::kBF16> {
  static constexpr bool kBlocks = false;
  static constexpr int64_t kBytes = 2;
  static typename V::Reg load(const std::byte* p) { return V::load_bf16(p); }
  static typename V::Reg load_n(const std::byte* p, int64_t n) { return V::load_bf16_n(p, n); }
};

// For blocks of 32, integers(p, out) gives the block's weights without their scale, in order.
template <class V>
struct Weights<V, DType::kQ8_0> {
  static constexpr bool kBlocks = true;
  static constexpr int64_t kElems = kQuantBlock;
  static constexpr int64_t kBytes = kTypeBlockBytes<DType::kQ8_0>;
  static constexpr int kRegs = kQuantBlock / V::kLanes;
  static typename V::Reg scale(const std::byte* p) { return V::broadcast_f16(p); }
  [[gnu::always_inline]] static inline void integers(const std::byte* p, typename V::Reg* out) {
    for (int i = 0; i < kRegs; ++i) out[i] = V::load_i8(p + 2 + i * V::kLanes);
  }
};

template <class V>
struct Weights<V, DType::kQ4_0> {
  static constexpr bool kBlocks = true;
  static constexpr int64_t kElems = kQuantBlock;
  static constexpr int64_t kBytes = kTypeBlockBytes<DType::kQ4_0>;
  static constexpr int kRegs = kQuantBlock / V::kLanes;
  static typename V::Reg scale(const std::byte* p) { return V::broadcast_f16(p); }
  [[gnu::always_inline]] static inline void integers(const std::byte* p, typename V::Reg* out) {
    V::template load_nibbles<-8>(p + 2, out);
  }
};

// offset(p) is what is added to each weight of the block.
template <class V>
struct Weights<V, DType::kQ4_1> {
  static constexpr bool kBlocks = true;
  static constexpr int64_t kElems = kQuantBlock;
  static constexpr int64_t kBytes = kTypeBlockBytes<DType::kQ4_1>;
  static constexpr int kRegs = kQuantBlock / V::kLanes;
  static typename V::Reg scale(const std::byte* p) { return V::broadcast_f16(p); }
  static typename V::Reg offset(const std::byte* p) { return V::broadcast_f16(p + 2); }
  [[gnu::always_inline]] static inline void integers(const std::byte* p, typename V::Reg* out) {
    V::template load_nibbles<0>(p + 4, out);
  }
};

template <class W>
concept HasOffset = requires(const std::byte* p) {
  W::offset(p);
};

// Byte offset of a column (of its block for quantised types).
template <class W>
constexpr int64_t column_offset(int64_t col) {
  if constexpr (W::kBlocks) {
    return col / W::kElems * W::kBytes;
  } else {
    return col * W::kBytes;
  }
}

// Decodes columns [col, col + 32) as they are, scale included.
template <class V, class W>
void load_weights(const std::byte* row, int64_t col, typename V::Reg* out) {
  const std::byte* const p = row + column_offset<W>(col);
  W::integers(p, out);
  const typename V::Reg scale = W::scale(p);
  if constexpr (HasOffset<W>) {
    const typename V::Reg offset = W::offset(p);
    for (int v = 0; v < W::kRegs; ++v) out[v] = V::fma(scale, out[v], offset);
  } else {
    for (int v = 0; v < W::kRegs; ++v) out[v] = V::mul(scale, out[v]);
  }
}

}  // namespace thermocline
