#include "gpu_kernels/emulation/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include "gpu_kernels/emulation/control.h"
#include "gpu_kernels/emulation/sanitizers.h"
#include "gpu_kernels/emulation/stream.h"
#include "runtime/core/error.h"

namespace thermocline::emulation {
namespace {

constexpr size_t kAlignment = 256;    // what cudaMalloc aligns to
constexpr size_t kCanaryBytes = 512;  // on either side; rounding up adds to those behind the end
constexpr std::byte kCanary{0xc5};
constexpr std::byte kFresh{0xff};

struct Allocation {
  std::byte* data = nullptr;
  size_t n_bytes = 0;
  size_t back_bytes = 0;  // of the canary behind the data
  bool on_device = false;
  bool on_pages = false;    // of its own
  bool keyed = false;       // its pages have DeviceKey()
  bool registered = false;  // the user's memory, which has no canaries
};

struct Registry {
  std::mutex mutex;
  std::map<const std::byte*, Allocation> allocations;  // allocations by their data
  size_t device_bytes = 0;
  int n_unkeyed = 0;  // allocations on the device that are closed one by one
  int n_users = 0;    // how many users device memory has
};

Registry& TheRegistry() {
  static Registry registry;
  return registry;
}

// The protection key of the device's memory, or -1 where the processor or the kernel has none left.
// A thread that has not set its rights to it has none.
int DeviceKey() {
  static const int key = pkey_alloc(/*flags=*/0, PKEY_DISABLE_ACCESS);
  return key;
}

// Sets this thread's rights to the device's memory, as pkey_set() has them, and returns those
// before.
int SetRights(int rights) {
  if (DeviceKey() < 0) return 0;
  const int before = pkey_get(DeviceKey());
  CHECK(pkey_set(DeviceKey(), static_cast<unsigned>(rights)) == 0);
  return before;
}

// Device memory lies on pages of its own, which are closed by the key or one by one; without a key
// it is poisoned for AddressSanitizer instead.
constexpr size_t kPage = 4096;

std::byte* PagesOf(const Allocation& a) { return a.data - kPage; }
size_t PageBytes(const Allocation& a) { return kPage + a.n_bytes + a.back_bytes; }

// What has the key stays as it is.
void SetOpen(const Allocation& a, bool open) {
  if (a.keyed) return;
  if (!a.on_pages) {
    (open ? Unpoison : Poison)(a.data, a.n_bytes);
    return;
  }
  CHECK(mprotect(PagesOf(a), PageBytes(a), open ? PROT_READ | PROT_WRITE : PROT_NONE) == 0);
}

void SetAllOpen(const Registry& registry, bool open) {
  if (registry.n_unkeyed == 0) return;
  for (const auto& [data, a] : registry.allocations) {
    if (a.on_device) SetOpen(a, open);
  }
}

// REQUIRES: n_bytes > 0.
bool IsCanary(const std::byte* from, size_t n_bytes) {
  return from[0] == kCanary && std::memcmp(from, from + 1, n_bytes - 1) == 0;
}

void WriteCanaries(const Allocation& a) {
  std::fill_n(a.data - kCanaryBytes, kCanaryBytes, kCanary);
  std::fill_n(a.data + a.n_bytes, a.back_bytes, kCanary);
}

// Returns "" or what happened; each damage is reported once. back_bytes: how much is looked at
// behind the end. AddressSanitizer guards its canaries itself.
std::string BrokenCanary(const Allocation& a, size_t back_bytes) {
  if (kAddressSanitizer || a.registered) return "";
  const bool front = IsCanary(a.data - kCanaryBytes, kCanaryBytes);
  if (front && IsCanary(a.data + a.n_bytes, back_bytes)) return "";
  WriteCanaries(a);
  return fmt::format("memory {} {} of {} bytes was written to", front ? "behind" : "in front of",
                     a.on_device ? "an allocation" : "a pinned allocation", a.n_bytes);
}

// Returns nullptr where the system has no pages left.
std::byte* NewPages(size_t n_bytes) {
  void* pages =
      mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  return pages == MAP_FAILED ? nullptr : static_cast<std::byte*>(pages);
}

void* Allocate(Registry& registry, size_t n_bytes, bool on_device) {
  const bool keyed = on_device && CurrentSettings().protection_keys && DeviceKey() >= 0;
  const bool on_pages = keyed || (on_device && !kAddressSanitizer);
  const size_t front = on_pages ? kPage : kCanaryBytes;
  const size_t unit = on_pages ? kPage : kAlignment;
  const size_t padded = (n_bytes + kCanaryBytes + unit - 1) / unit * unit;
  Allocation a{.n_bytes = n_bytes,
               .back_bytes = padded - n_bytes,
               .on_device = on_device,
               .on_pages = on_pages,
               .keyed = keyed};
  std::byte* base = on_pages ? NewPages(front + padded)
                             : static_cast<std::byte*>(std::aligned_alloc(unit, front + padded));
  if (base == nullptr) return nullptr;
  a.data = base + front;
  std::fill_n(a.data, n_bytes, kFresh);
  WriteCanaries(a);
  Poison(a.data - kCanaryBytes, kCanaryBytes);
  Poison(a.data + n_bytes, a.back_bytes);
  if (keyed) {
    const int rights = PROT_READ | PROT_WRITE;
    CHECK(pkey_mprotect(PagesOf(a), PageBytes(a), rights, DeviceKey()) == 0);
  }
  if (on_device && registry.n_users == 0) SetOpen(a, false);
  if (on_device && !keyed) ++registry.n_unkeyed;
  registry.allocations[a.data] = a;
  return a.data;
}

cudaError_t Free(void* pointer, bool on_device) {
  if (pointer == nullptr) return cudaSuccess;
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  const auto found = registry.allocations.find(static_cast<std::byte*>(pointer));
  if (found == registry.allocations.end() || found->second.on_device != on_device ||
      found->second.registered) {
    return cudaErrorInvalidValue;
  }
  const Allocation a = found->second;
  if (a.on_device) SetOpen(a, true);
  const int rights = SetRights(0);
  const std::string broken = BrokenCanary(a, a.back_bytes);
  SetRights(rights);
  if (!broken.empty()) SetReport(broken + " before it was freed");
  if (on_device) registry.device_bytes -= a.n_bytes;
  if (on_device && !a.keyed) --registry.n_unkeyed;
  registry.allocations.erase(found);
  Unpoison(a.data - kCanaryBytes, kCanaryBytes);
  Unpoison(a.data + a.n_bytes, a.back_bytes);
  if (a.on_pages) {
    munmap(PagesOf(a), PageBytes(a));
  } else {
    std::free(a.data - kCanaryBytes);
  }
  return cudaSuccess;
}

}  // namespace

DeviceAccess::DeviceAccess() : rights_(SetRights(0)) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  if (registry.n_users++ == 0) SetAllOpen(registry, true);
}

DeviceAccess::~DeviceAccess() {
  SetRights(rights_);
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  if (--registry.n_users == 0) SetAllOpen(registry, false);
}

Place PlaceOf(const void* at, size_t n_bytes) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  const auto* start = static_cast<const std::byte*>(at);
  auto next = registry.allocations.upper_bound(start);
  if (next == registry.allocations.begin()) return Place::kUnknown;
  const Allocation& a = std::prev(next)->second;
  if (start >= a.data + a.n_bytes + a.back_bytes) return Place::kUnknown;
  if (start > a.data + a.n_bytes || n_bytes > static_cast<size_t>(a.data + a.n_bytes - start)) {
    return Place::kOutside;
  }
  return a.on_device ? Place::kDevice : Place::kMapped;
}

std::string FindBrokenCanary() {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  for (const auto& [data, allocation] : registry.allocations) {
    // What lies behind these bytes is looked at when the allocation is freed.
    std::string broken = BrokenCanary(allocation, kCanaryBytes);
    if (!broken.empty()) return broken;
  }
  return "";
}

}  // namespace thermocline::emulation

using namespace thermocline::emulation;

cudaError_t cudaMalloc(void** pointer, size_t n_bytes) {
  if (const cudaError_t error = ErrorUnlessCallable(); error != cudaSuccess) return Failed(error);
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  const size_t total = CurrentSettings().device_bytes;
  *pointer = nullptr;
  if (n_bytes > total - std::min(total, registry.device_bytes)) {
    return Failed(cudaErrorMemoryAllocation);
  }
  *pointer = Allocate(registry, n_bytes, /*on_device=*/true);
  if (*pointer == nullptr) return Failed(cudaErrorMemoryAllocation);
  registry.device_bytes += n_bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  // Nothing is freed that enqueued work may still use, as on hardware.
  WaitForAllStreams();
  return Failed(Free(pointer, /*on_device=*/true));
}

cudaError_t cudaHostAlloc(void** pointer, size_t n_bytes, unsigned /*flags*/) {
  if (const cudaError_t error = ErrorUnlessCallable(); error != cudaSuccess) return Failed(error);
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  *pointer = Allocate(registry, n_bytes, /*on_device=*/false);
  return Failed(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFreeHost(void* pointer) {
  WaitForAllStreams();
  return Failed(Free(pointer, /*on_device=*/false));
}

cudaError_t cudaHostRegister(void* pointer, size_t n_bytes, unsigned /*flags*/) {
  if (pointer == nullptr || PlaceOf(pointer, n_bytes) != Place::kUnknown) {
    return Failed(cudaErrorInvalidValue);
  }
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  auto* data = static_cast<std::byte*>(pointer);
  registry.allocations[data] = {.data = data, .n_bytes = n_bytes, .registered = true};
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  WaitForAllStreams();
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  const auto found = registry.allocations.find(static_cast<std::byte*>(pointer));
  if (found == registry.allocations.end() || !found->second.registered) {
    return Failed(cudaErrorInvalidValue);
  }
  registry.allocations.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned /*flags*/) {
  if (PlaceOf(host, 0) != Place::kMapped) return Failed(cudaErrorInvalidValue);
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  *total_bytes = CurrentSettings().device_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, registry.device_bytes);
  return cudaSuccess;
}
