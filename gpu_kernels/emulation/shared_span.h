// The emulated SharedSpan, SHARED_ARRAY and DYNAMIC_SHARED of gpu_kernels/base/shared_memory.h.
#pragma once

#include <cstddef>
#include <type_traits>

#include "gpu_kernels/emulation/intrinsics.h"
#include "gpu_kernels/emulation/shared_memory.h"

namespace thermocline {

template <typename T>
struct SharedPointer {
  emulation::SharedRegion* region;
  size_t index;
  T* Touch(emulation::Access access) const {
    emulation::CurrentBlock().shared().Record(*region, index, access);
    return reinterpret_cast<T*>(region->data) + index;
  }
};

template <typename T>
class SharedReference {
 public:
  explicit SharedReference(SharedPointer<T> at) : at_(at) {}
  SharedReference(const SharedReference&) = default;
  operator T() const { return *at_.Touch(emulation::Access::kRead); }
  SharedReference& operator=(const T& value) {
    *at_.Touch(emulation::Access::kWrite) = value;
    return *this;
  }
  SharedReference& operator=(const SharedReference& other) { return *this = static_cast<T>(other); }
  SharedReference& operator+=(const T& value) { return *this = static_cast<T>(*this) + value; }
  SharedReference& operator-=(const T& value) { return *this = static_cast<T>(*this) - value; }
  SharedReference& operator*=(const T& value) { return *this = static_cast<T>(*this) * value; }
  SharedPointer<T> operator&() const { return at_; }

 private:
  SharedPointer<T> at_;
};

template <typename T>
class SharedSpan {
 public:
  static_assert(std::is_trivially_copyable_v<T>);
  explicit SharedSpan(emulation::SharedRegion& region) : region_(&region) {}
  SharedReference<T> operator[](size_t i) const { return SharedReference<T>({region_, i}); }

 private:
  emulation::SharedRegion* region_;
};

}  // namespace thermocline

#define SHARED_ARRAY(T, name, n)           \
  static const char name##_key = 0;        \
  const ::thermocline::SharedSpan<T> name( \
      ::thermocline::emulation::CurrentBlock().shared().Static(&name##_key, #name, n, sizeof(T)))
#define DYNAMIC_SHARED(T, name, offset_bytes, n)                                        \
  const ::thermocline::SharedSpan<T> name(                                              \
      ::thermocline::emulation::CurrentBlock().shared().Dynamic(#name, offset_bytes, n, \
                                                                sizeof(T)))

// Atomics on shared memory: atomicAdd(&partial[i], x).
template <typename T>
T atomicAdd(thermocline::SharedPointer<T> at, std::type_identity_t<T> value) {
  return atomicAdd(at.Touch(thermocline::emulation::Access::kAtomic), value);
}
template <typename T>
T atomicMax(thermocline::SharedPointer<T> at, std::type_identity_t<T> value) {
  return atomicMax(at.Touch(thermocline::emulation::Access::kAtomic), value);
}
template <typename T>
T atomicMin(thermocline::SharedPointer<T> at, std::type_identity_t<T> value) {
  return atomicMin(at.Touch(thermocline::emulation::Access::kAtomic), value);
}
template <typename T>
T atomicOr(thermocline::SharedPointer<T> at, std::type_identity_t<T> value) {
  return atomicOr(at.Touch(thermocline::emulation::Access::kAtomic), value);
}
