// Prefetching of stretches of memory, into the cache that suits the processor.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu_kernels/prefetch_plan.h"

namespace thermocline {

// Prefetches kBytes from p on, into the first cache or the second. Inlining is forced, since GCC
// takes a function that only prefetches for one without effect and drops the call.
template <int64_t kBytes>
[[gnu::always_inline]] inline void prefetch_lines(const std::byte* p, bool near) {
  const auto* const bytes = reinterpret_cast<const char*>(p);
  if (near) {
    for (int64_t line = 0; line < kBytes; line += kCacheLine) {
      _mm_prefetch(bytes + line, _MM_HINT_T0);
    }
  } else {
    for (int64_t line = 0; line < kBytes; line += kCacheLine) {
      _mm_prefetch(bytes + line, _MM_HINT_T1);
    }
  }
}

}  // namespace thermocline
