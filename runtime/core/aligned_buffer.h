// Zero-filled memory for weights and scratch. It is 64-byte aligned, in whole pages, and asks for
// transparent huge pages when it is large. Throws Error (never std::bad_alloc) and names what the
// memory was for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace thermocline {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(uint64_t n_bytes, const std::string& purpose);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  void* data() { return data_; }
  const void* data() const { return data_; }
  std::byte* bytes() { return static_cast<std::byte*>(data_); }
  template <typename T>
  T* as() {
    return static_cast<T*>(data_);
  }
  uint64_t size() const { return n_bytes_; }

 private:
  void swap(AlignedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
  }
  void* data_ = nullptr;
  uint64_t n_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;
};

}  // namespace thermocline
