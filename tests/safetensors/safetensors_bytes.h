// Safetensors files made in memory, right and wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace thermocline {

class SafetensorsBytes {
 public:
  // Adds a tensor with its bytes behind those before.
  SafetensorsBytes& Add(const std::string& name, const std::string& dtype,
                        const std::vector<uint64_t>& shape, const std::string& bytes) {
    header_[name] = {{"dtype", dtype},
                     {"shape", shape},
                     {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
    return *this;
  }
  SafetensorsBytes& AddF32(const std::string& name, const std::vector<uint64_t>& shape,
                           const std::vector<float>& values) {
    return Add(name, "F32", shape,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  nlohmann::json& header() { return header_; }

  std::string bytes() const { return WithHeader(header_.dump()); }
  // The same data behind another header.
  std::string WithHeader(const std::string& text) const {
    const uint64_t length = text.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + text + data_;
  }

 private:
  nlohmann::json header_ = nlohmann::json::object();
  std::string data_;
};

inline std::span<const std::byte> BytesOfText(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace thermocline
