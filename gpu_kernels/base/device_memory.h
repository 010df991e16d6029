// Memory that kernels work on. Contents are undefined until written.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace thermocline {

struct DeviceMemoryUse {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
// Memory of the current device, with what other processes use.
DeviceMemoryUse QueryDeviceMemory();

// Memory of the GPU, aligned to 256 bytes. Freeing it waits for the GPU.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  // Throws Error that says what the memory was for, how much was asked for and how much was free.
  DeviceMemory(uint64_t n_bytes, const std::string& purpose);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // The host must not follow it.
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  uint64_t size() const { return n_bytes_; }

 private:
  void swap(DeviceMemory& other) {
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
  }
  void* data_ = nullptr;
  uint64_t n_bytes_ = 0;
};

// Pinned host memory that kernels read and write over the bus while the host does: for hand-overs
// and for copies that run beside the host. Coherent for system-scope atomics and fences
// (gpu_kernels/base/system_flag.h).
class MappedMemory {
 public:
  MappedMemory() = default;
  MappedMemory(uint64_t n_bytes, const std::string& purpose);
  ~MappedMemory();
  MappedMemory(MappedMemory&& other) noexcept { swap(other); }
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  template <typename T>
  T* host() const {
    return static_cast<T*>(host_);
  }
  template <typename T>
  T* device() const {
    return static_cast<T*>(device_);
  }
  uint64_t size() const { return n_bytes_; }

 private:
  void swap(MappedMemory& other) {
    std::swap(host_, other.host_);
    std::swap(device_, other.device_);
    std::swap(n_bytes_, other.n_bytes_);
  }
  void* host_ = nullptr;
  void* device_ = nullptr;
  uint64_t n_bytes_ = 0;
};

}  // namespace thermocline
