// Memory of the emulated device and pinned host memory. Both lie between canaries, which are looked
// at after every kernel and when the memory is freed; under AddressSanitizer touching one is an
// error at once. Fresh memory is filled with 0xff bytes (a NaN in every floating point format).
// While no stream has work the device's memory cannot be touched: a host that follows a device
// pointer then dies, as it would on hardware.
#pragma once

#include <cstddef>
#include <string>

#include "gpu_kernels/emulation/runtime_api.h"

namespace thermocline::emulation {

// Where n_bytes of memory lie that start at `at`.
enum class Place {
  kUnknown,  // in no allocation of ours: ordinary host memory
  kDevice,
  kMapped,   // pinned or registered host memory, which the device sees
  kOutside,  // begins in an allocation and ends behind it, or was freed
};
Place PlaceOf(const void* at, size_t n_bytes);

// Whoever holds one may touch the device's memory.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

// Returns "" or which allocation's neighbourhood was written to.
std::string FindBrokenCanary();

}  // namespace thermocline::emulation
