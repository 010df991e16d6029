// Memory of the emulated device and pinned host memory. Both lie between canaries, which are looked
// at after every kernel and when the memory is freed; under AddressSanitizer touching one is an
// error at once. Fresh memory is filled with 0xff bytes (a NaN in every floating point format).
// A host that follows a device pointer dies, as it would on hardware: the device's memory has a
// protection key that only threads with DeviceAccess open. On processors without such keys the
// memory is closed while no stream has work, page by page.
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

// The thread that holds one may touch the device's memory.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;

 private:
  int rights_;  // that the thread had before
};

// Returns "" or which allocation's neighbourhood was written to.
std::string FindBrokenCanary();

}  // namespace thermocline::emulation
