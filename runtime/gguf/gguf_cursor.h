// Reads the bytes of a GGUF header in order and never past their end. Its errors say which part of
// the file it was in, which costs nothing until something is wrong.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace thermocline {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in the file");

inline constexpr const char* kDamagedHint =
    "the file is truncated or damaged: download or make it again";

class GgufCursor {
 public:
  // Both must outlive the cursor.
  GgufCursor(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), path_(path) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  const std::string& path() const { return path_; }

  // Sets what is being read, for messages: "the value of key" + 'name'. The views must stay valid
  // until the next call.
  void enter(std::string_view part, std::string_view name = {}) {
    part_ = part;
    name_ = name;
  }

  // Returns the next n_bytes. Throws Error when there are fewer.
  std::span<const std::byte> take(uint64_t n_bytes) {
    if (n_bytes > remaining()) FailTruncated(n_bytes);
    const auto taken = bytes_.subspan(position_, n_bytes);
    position_ += n_bytes;
    return taken;
  }

  template <typename T>
  T read() {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  // Reads a length of 64 bits, then that many bytes. Throws Error when the length is over
  // max_bytes.
  std::string ReadString(uint64_t max_bytes);

  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found,
                         std::string hint = kDamagedHint) const;

 private:
  [[noreturn]] void FailTruncated(uint64_t n_bytes) const;
  std::string context() const;  // "the value of key 'llama.block_count'"

  std::span<const std::byte> bytes_;
  const std::string& path_;
  uint64_t position_ = 0;
  std::string_view part_;
  std::string_view name_;
};

}  // namespace thermocline
