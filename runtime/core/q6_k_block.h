// Where the parts of a block of Q6_K lie (runtime/core/dtype.h says what they mean), in bytes.
#pragma once

#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline::q6_k {

inline constexpr int64_t kBytes = 210;
inline constexpr int64_t kHighAt = 128;
inline constexpr int64_t kScalesAt = 192;
inline constexpr int64_t kDAt = 208;
inline constexpr int64_t kChunks = kSuperBlock / kQuantBlock;
inline constexpr int64_t kScaled = 16;  // weights that share a scale

// Where chunk c (0..7) lies: the first byte of its low nibbles and of its high bits, and how far
// they are to be shifted down. Its scales are 2 * c and 2 * c + 1. They are always inlined: units
// of one instruction set may not emit a function that others could be linked with.
[[gnu::always_inline]] constexpr int64_t LowAt(int64_t c) { return c / 4 * 64 + c % 2 * 32; }
[[gnu::always_inline]] constexpr int LowShift(int64_t c) { return static_cast<int>(c % 4 / 2 * 4); }
[[gnu::always_inline]] constexpr int64_t HighAt(int64_t c) { return kHighAt + c / 4 * 32; }
[[gnu::always_inline]] constexpr int HighShift(int64_t c) { return static_cast<int>(c % 4 * 2); }

}  // namespace thermocline::q6_k
