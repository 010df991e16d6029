// Element types of tensors. The numbers are GGUF's own type ids (ggml's), so that a file's field is
// checked and then cast. Types that we store and compute with have a row in kWeightTypes, and
// everything that enumerates types iterates over it; of the others only the sizes are known, so
// that `inspect` can list a file that holds them.
//
// To add a type of weights: give it its DType and its row here, and follow the compiler to the
// kernels that it lacks (a static_assert ends every choice by type).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/core/error.h"

namespace thermocline {

enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,   // 32 weights: f16 scale d, 16 bytes of nibbles; weight i (i < 16) is the low nibble
               // of byte i, weight 16 + i its high nibble; value = d * (nibble - 8)
  kQ4_1 = 3,   // 32 weights: f16 scale d, f16 offset m, nibbles in the order of Q4_0;
               // value = d * nibble + m, in f32 rounded once
  kQ8_0 = 8,   // 32 weights: f16 scale d, 32 signed bytes; value = d * q
  kQ6_K = 14,  // 256 weights: see kSuperBlock
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
};

inline constexpr int kQuantBlock = 32;  // weights that share a scale in Q4_0, Q4_1 and Q8_0

// Weights of a block of Q6_K, and the block: 128 bytes of low nibbles, 64 bytes of pairs of high
// bits, 16 signed bytes of scales (of 16 weights each), f16 d. The weights are eight chunks of 32;
// weight i of chunk c is
//   low nibble   of byte 64 * (c / 4) + 32 * (c % 2) + i, shifted down by 4 * (c % 4 / 2)
//   high bits    of byte 128 + 32 * (c / 4) + i, shifted down by 2 * (c % 4)
//   value        d * scale[2 * c + i / 16] * (low + 16 * high - 32)
// Every value is exact in f32: 11 bits of d, 7 of the scale, 5 of the weight and powers of two.
inline constexpr int kSuperBlock = 256;

struct DTypeInfo {
  DType dtype;
  std::string_view name;    // "F16", "Q4_0", ...
  uint32_t block_elems;     // elements in a block
  uint32_t block_bytes;     // bytes of a block
  bool computable = false;  // has a row in kWeightTypes
};

// All that is said about a type of weights outside the kernels.
struct WeightTypeInfo {
  DTypeInfo stored;
  std::string_view about;  // what a weight is stored as, for help texts
  uint32_t file_type;      // general.file_type of a model of this type (llama.cpp's ftype)
  int precision;           // a type rounds weights less than those of lower precision
  DType for_other_rows;    // takes its place where rows hold no whole blocks
  DType for_vocabulary;  // type of the embedding table and the output head in a model of this type
};

inline constexpr WeightTypeInfo kWeightTypes[] = {
    {.stored = {DType::kF32, "F32", 1, 4, true},
     .about = "32-bit floats",
     .file_type = 0,
     .precision = 5,
     .for_other_rows = DType::kF32,
     .for_vocabulary = DType::kF32},
    {.stored = {DType::kF16, "F16", 1, 2, true},
     .about = "16-bit floats",
     .file_type = 1,
     .precision = 4,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kF16},
    {.stored = {DType::kBF16, "BF16", 1, 2, true},
     .about = "16-bit floats with the range of 32-bit ones",
     .file_type = 32,
     .precision = 4,
     .for_other_rows = DType::kBF16,
     .for_vocabulary = DType::kBF16},
    {.stored = {DType::kQ8_0, "Q8_0", 32, 34, true},
     .about = "8 bits and a scale per 32 weights",
     .file_type = 7,
     .precision = 3,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0},
    {.stored = {DType::kQ6_K, "Q6_K", 256, 210, true},
     .about = "6 bits, and scales per 16 and 256 weights",
     .file_type = 18,
     .precision = 2,
     .for_other_rows = DType::kQ8_0,
     .for_vocabulary = DType::kQ6_K},
    {.stored = {DType::kQ4_1, "Q4_1", 32, 20, true},
     .about = "4 bits, a scale and an offset per 32 weights",
     .file_type = 3,
     .precision = 1,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0},
    {.stored = {DType::kQ4_0, "Q4_0", 32, 18, true},
     .about = "4 bits and a scale per 32 weights",
     .file_type = 2,
     .precision = 0,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0},
};

// The types of weights, in the table's order.
inline constexpr auto kWeightDTypes = [] {
  std::array<DType, std::size(kWeightTypes)> types = {};
  for (size_t i = 0; i < types.size(); ++i) types[i] = kWeightTypes[i].stored.dtype;
  return types;
}();

// A type of weights as a type of C++. Its value is the DType: `type()` is a constant.
template <DType kType>
using WeightType = std::integral_constant<DType, kType>;

// False for every type. It is for the static_assert at the end of a choice by type.
template <DType kType>
inline constexpr bool kHandlesType = false;

// Returns the row of a type that is known at compile time.
constexpr WeightTypeInfo TraitsOf(DType dtype) {
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (info.stored.dtype == dtype) return info;
  }
  CheckFailed(__FILE__, __LINE__, "a type of weights");
}
template <DType kType>
inline constexpr int64_t kTypeBlockElems = TraitsOf(kType).stored.block_elems;
template <DType kType>
inline constexpr int64_t kTypeBlockBytes = TraitsOf(kType).stored.block_bytes;
// Quantised weights lie in blocks with scales; dot products with them take activations in int8.
template <DType kType>
inline constexpr bool kIsQuantised = kTypeBlockElems<kType> > 1;

// Returns f(WeightType<T>()) for the T that `dtype` is: the one place where a type known at run
// time becomes a template argument. REQUIRES: a type of weights.
template <size_t kIndex = 0, typename F>
[[gnu::always_inline]] inline decltype(auto) VisitWeightType(DType dtype, const F& f) {
  constexpr DType kType = kWeightDTypes[kIndex];
  if constexpr (kIndex + 1 < kWeightDTypes.size()) {
    if (dtype != kType) return VisitWeightType<kIndex + 1>(dtype, f);
  } else {
    CHECK(dtype == kType);
  }
  return f(WeightType<kType>());
}

// Returns the entry of a GGUF type id, or nullptr for an id nobody knows.
const DTypeInfo* FindDType(uint32_t gguf_type_id);
const DTypeInfo& GetDTypeInfo(DType dtype);
std::string_view DTypeName(DType dtype);
// Returns the type's row. REQUIRES: a type of weights.
const WeightTypeInfo& GetWeightTypeInfo(DType dtype);

// Reads "f16", "Q8_0", ... in any case. Returns nullopt for a name that is not a computable type.
std::optional<DType> ParseWeightDType(std::string_view name);
// Returns "F32, F16, BF16, ...", for messages.
std::string WeightDTypeNames();

// Returns the bytes of a row of n elements. REQUIRES: n is a multiple of the block.
int64_t RowBytes(DType dtype, int64_t n);

}  // namespace thermocline
