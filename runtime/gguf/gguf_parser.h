// Parses one GGUF file's header: metadata and tensor table, every number checked. What it returns
// may be used without further checks: tensors lie inside the file, apart from each other and
// aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf/gguf.h"

namespace thermocline {

using GgufValues = std::map<std::string, GgufValue, std::less<>>;

struct GgufContents {
  GgufContainer container = GgufContainer::kGguf;
  uint32_t version = 0;
  uint64_t alignment = 32;
  std::vector<std::string> keys;  // in file order
  GgufValues values;
  // Tensors in file order, with names not yet checked to be unique. Empty lists of PowerInfer's,
  // tensors of one dimension that is 0, are left out.
  std::vector<GgufTensorInfo> tensors;
  uint64_t data_offset = 0;
};

// Parses a header. Throws Error naming `path`.
GgufContents ParseGguf(std::span<const std::byte> bytes, const std::string& path);

// Returns the value of a key as a non-negative integer of any width; nullopt when absent. Throws
// Error when it is something else.
std::optional<uint64_t> FindU64(const GgufValues& values, std::string_view key,
                                const std::string& path);

[[noreturn]] void FailKeyType(std::string_view key, const GgufValue& value,
                              const std::string& expected, const std::string& path);

}  // namespace thermocline
