// 64-bit arithmetic on numbers that come from files: every operation says whether it overflowed.
#pragma once

#include <cstdint>
#include <optional>

namespace thermocline {

[[nodiscard]] inline bool CheckedMul(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_mul_overflow(a, b, out);
}

[[nodiscard]] inline bool CheckedAdd(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_add_overflow(a, b, out);
}

// Rounds up to a multiple of `alignment` (a power of two is not required); alignment > 0.
[[nodiscard]] inline bool CheckedAlignUp(uint64_t value, uint64_t alignment, uint64_t* out) {
  const uint64_t rest = value % alignment;
  return rest == 0 ? (*out = value, true) : CheckedAdd(value, alignment - rest, out);
}

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t AlignUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

}  // namespace thermocline
