// Reads one metadata value at a cursor. Counts are checked against the bytes left before anything
// is allocated.
#pragma once

#include <cstdint>

#include "runtime/gguf/gguf.h"
#include "runtime/gguf/gguf_cursor.h"

namespace thermocline {

inline constexpr uint64_t kMaxStringBytes = 16U << 20;
// The most array elements in one file, all arrays together: 512 MiB of numbers when decoded.
inline constexpr uint64_t kMaxArrayElements = 64U << 20;

// Reads a value. `elements_left` is what remains of kMaxArrayElements; it is counted down.
GgufValue ReadGgufValue(GgufCursor& cursor, uint64_t* elements_left);

}  // namespace thermocline
