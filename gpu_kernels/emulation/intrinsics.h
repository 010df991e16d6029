// CUDA's arithmetic intrinsics, cached loads, atomics and fences that kernels use, for emulated
// builds.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "gpu_kernels/emulation/vector_types.h"

// Floating point. These are macros, as the C library has functions of some of these names for its
// own use.
#define __expf(x) ::expf(x)
#define __logf(x) ::logf(x)
#define __log2f(x) ::log2f(x)
#define __exp2f(x) ::exp2f(x)
#define __powf(x, y) ::powf(x, y)
#define __sinf(x) ::sinf(x)
#define __cosf(x) ::cosf(x)
#define __sincosf(x, sine, cosine) (*(sine) = ::sinf(x), *(cosine) = ::cosf(x))
using std::isfinite;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

// Integers.
template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned select = selector >> (4 * i) & 0xf;
    unsigned byte = bytes >> (8 * (select & 7)) & 0xff;
    if ((select & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;  // its sign, eight times
    result |= byte << (8 * i);
  }
  return result;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 0xff) * (b >> i & 0xff);
  return c;
}
// Subtracts four bytes at once, each modulo 256.
inline unsigned __vsub4(unsigned a, unsigned b) {
  unsigned result = 0;
  for (int i = 0; i < 32; i += 8) result |= (((a >> i) - (b >> i)) & 0xff) << i;
  return result;
}

// Loads and stores that name a cache.
template <typename T>
T __ldg(const T* from) {
  return *from;
}
template <typename T>
T __ldcg(const T* from) {
  return *from;
}
template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
void __stcs(T* to, T value) {
  *to = value;
}
template <typename T>
void __stcg(T* to, T value) {
  *to = value;
}

// Atomics on global memory; those on shared memory are in gpu_kernels/base/shared_memory.h. Each
// returns the old value.
namespace thermocline::emulation {
template <typename T, typename Change>
T AtomicChange(T* at, Change change) {
  std::atomic_ref<T> target(*at);
  T old = target.load(std::memory_order_relaxed);
  while (!target.compare_exchange_weak(old, change(old), std::memory_order_relaxed)) {
  }
  return old;
}
}  // namespace thermocline::emulation

// std::type_identity_t makes the second argument convert to the type of the first.
template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at,
                                              [=](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at, [=](T old) { return std::max(old, value); });
}
template <typename T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at, [=](T old) { return std::min(old, value); });
}
template <typename T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at, [=](T old) { return old | value; });
}
template <typename T>
T atomicAnd(T* at, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at, [=](T old) { return old & value; });
}
template <typename T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at, [=](T) { return value; });
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return thermocline::emulation::AtomicChange(at,
                                              [=](T old) { return old == compare ? value : old; });
}
// Wraps round to 0 behind `last`.
inline unsigned atomicInc(unsigned* at, unsigned last) {
  return thermocline::emulation::AtomicChange(
      at, [=](unsigned old) { return old >= last ? 0u : old + 1; });
}

// ThreadSanitizer does not know fences; an atomic change of one variable orders as much.
namespace thermocline::emulation {
inline std::atomic<int> fence_variable = 0;
}
inline void __threadfence() { thermocline::emulation::fence_variable.fetch_add(1); }
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }
