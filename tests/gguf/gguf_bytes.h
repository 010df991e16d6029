// Builds GGUF files byte by byte, right or wrong: nothing here checks anything.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/gguf/gguf.h"

namespace thermocline {

class GgufBytes {
 public:
  template <typename T>
  GgufBytes& number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  GgufBytes& u8(uint8_t v) { return number(v); }
  GgufBytes& u32(uint32_t v) { return number(v); }
  GgufBytes& u64(uint64_t v) { return number(v); }
  GgufBytes& raw(const std::string& bytes);
  GgufBytes& text(const std::string& text);  // length, bytes
  GgufBytes& zeros(uint64_t n_bytes);
  GgufBytes& pad(uint64_t alignment = 32);

  GgufBytes& header(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3);
  GgufBytes& key(const std::string& name, GgufType type);  // the value comes after it
  GgufBytes& KeyU32(const std::string& name, uint32_t value);
  GgufBytes& KeyText(const std::string& name, const std::string& value);
  GgufBytes& KeyArray(const std::string& name, GgufType element, uint64_t count);
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& dims, DType dtype,
                    uint64_t offset);

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

inline std::span<const std::byte> AsBytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Returns a correct file with a value of every type and three tensors (f32, q8_0, f16), the last of
// which ends with the file.
std::string SmallValidGguf(uint32_t version = 3);

// Puts the bytes under PowerInfer's magic. REQUIRES: they begin with a magic.
std::string AsPowerInfer(std::string bytes);

// Returns where the parts of SmallValidGguf() end: header, each key, each tensor's entry, padding,
// each tensor's data.
std::vector<uint64_t> SmallValidGgufSections();

}  // namespace thermocline
