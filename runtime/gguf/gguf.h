// GGUF, the one container of all our files: typed key/value metadata, then tensors at aligned
// offsets. This header holds what the reader and the writer share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/core/dtype.h"

namespace thermocline {

// Which program's container a file is, by its first four bytes. PowerInfer's is GGUF under a magic
// of its own. It is read and never written.
enum class GgufContainer : uint8_t {
  kGguf,        // "GGUF"
  kPowerInfer,  // "PWRI"
};

// Ids of types as in the file.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// How a value of a type is held in GgufValue. Inside an array, booleans are held as unsigned.
enum class GgufValueKind { kUnsigned, kSigned, kFloat, kBool, kString, kArray };
GgufValueKind ValueKindOf(GgufType type);
std::string_view GgufTypeName(GgufType type);  // "u32", "string", ...
std::string_view GgufMagic(GgufContainer container);

// A metadata value. Integers of every width are held in 64 bits beside their file type, so that a
// caller asks for "an unsigned integer that fits" and never for one width.
struct GgufValue {
  using Array = std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                             std::vector<std::string>>;
  GgufType type = GgufType::kU32;
  GgufType element_type = GgufType::kU32;  // type of an array's elements
  std::variant<uint64_t, int64_t, double, bool, std::string, Array> value = uint64_t{0};

  static GgufValue u32(uint32_t v) { return {GgufType::kU32, {}, uint64_t{v}}; }
  static GgufValue u64(uint64_t v) { return {GgufType::kU64, {}, v}; }
  static GgufValue i32(int32_t v) { return {GgufType::kI32, {}, int64_t{v}}; }
  static GgufValue i64(int64_t v) { return {GgufType::kI64, {}, v}; }
  static GgufValue f32(float v) { return {GgufType::kF32, {}, double{v}}; }
  static GgufValue f64(double v) { return {GgufType::kF64, {}, v}; }
  static GgufValue boolean(bool v) { return {GgufType::kBool, {}, v}; }
  static GgufValue string(std::string v) { return {GgufType::kString, {}, std::move(v)}; }
  // The alternative of `v` must be the one that holds `element` (gguf_value_kind).
  static GgufValue array(GgufType element, Array v) {
    return {GgufType::kArray, element, std::move(v)};
  }
  static GgufValue strings(std::vector<std::string> v) {
    return array(GgufType::kString, std::move(v));
  }
};

struct GgufTensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<uint64_t>
      dims;  // as in the file: dims[0] is the row length (fastest); 1 to 4 of them
  uint64_t n_elements = 0;
  uint64_t n_bytes = 0;
  uint64_t offset = 0;  // from the start of the data section, in the tensor's own file
  int split_index = 0;  // which file of a split model holds it

  uint64_t cols() const { return dims[0]; }
  uint64_t rows() const { return n_elements / dims[0]; }
};

}  // namespace thermocline
