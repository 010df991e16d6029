// How the weights of each type are read with a vector unit V, for the templates that are written
// once for all types. Bytes: a float type's column c lies at c * kBytes; a quantised block b at b *
// kBytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline {

template <class V>
struct F32Weights {
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
struct F16Weights {
  static constexpr bool kBlocks = false;
  static constexpr int64_t kBytes = 2;
  static typename V::Reg load(const std::byte* p) { return V::load_f16(p); }
  static typename V::Reg load_n(const std::byte* p, int64_t n) { return V::load_f16_n(p, n); }
};

template <class V>
struct Bf16Weights {
  static constexpr bool kBlocks = false;
  static constexpr int64_t kBytes = 2;
  static typename V::Reg load(const std::byte* p) { return V::load_bf16(p); }
  static typename V::Reg load_n(const std::byte* p, int64_t n) { return V::load_bf16_n(p, n); }
};

// Blocks of 32: integers(p, out) gives the block's weights without their scale, in order.
template <class V>
struct Q8Weights {
  static constexpr bool kBlocks = true;
  static constexpr int64_t kBytes = 34;
  static constexpr int kRegs = kQuantBlock / V::kLanes;
  static typename V::Reg scale(const std::byte* p) { return V::broadcast_f16(p); }
  static void integers(const std::byte* p, typename V::Reg* out) {
    for (int i = 0; i < kRegs; ++i) out[i] = V::load_i8(p + 2 + i * V::kLanes);
  }
};

template <class V>
struct Q4Weights {
  static constexpr bool kBlocks = true;
  static constexpr int64_t kBytes = 18;
  static constexpr int kRegs = kQuantBlock / V::kLanes;
  static typename V::Reg scale(const std::byte* p) { return V::broadcast_f16(p); }
  static void integers(const std::byte* p, typename V::Reg* out) { V::load_nibbles(p + 2, out); }
};

// Byte offset of a column (of a block's first column for quantised types).
template <class W>
constexpr int64_t column_offset(int64_t col) {
  return W::kBlocks ? col / kQuantBlock * W::kBytes : col * W::kBytes;
}

}  // namespace thermocline
