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
  kQ4_0 = 2,  // 32 weights: f16 scale d, 16 bytes of nibbles; weight i (i < 16) is the low nibble
              // of byte i, weight 16 + i its high nibble; value = d * (nibble - 8)
  kQ4_1 = 3,  // 32 weights: f16 scale d, f16 offset m, nibbles in the order of Q4_0;
              // value = d * nibble + m, in f32 rounded once
  kQ5_0 = 6,  // the types without a comment: see weight_chunk.cc
  kQ5_1 = 7,
  kQ8_0 = 8,  // 32 weights: f16 scale d, 32 signed bytes; value = d * q
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,  // 256 weights: see kSuperBlock
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  // Types of ours, for stand-ins in drafts (docs/drafts.md), where rows hold no blocks of 256.
  // Other tools do not know their numbers.
  kS2_0 = 0x54430002,  // 32 weights: f16 scale d, 8 bytes; weight 8 s + j is bits 2 s and 2 s + 1
                       // of byte j; value = d * (2 pair - 3), that is -3, -1, 1 or 3 times d
  kS3_0 = 0x54430003,  // 32 weights: f16 scale d, 8 bytes of pairs in the order of S2_0, 32 third
                       // bits (weight i's is bit i); value = d * (2 (pair + 4 third) - 7)
};

inline constexpr int kQuantBlock = 32;  // weights of the smaller blocks: of Q4_0, Q8_0, ...

// Weights of the larger blocks, Q6_K's among them. Its block: 128 bytes of low nibbles, 64 bytes of
// pairs of high bits, 16 signed bytes of scales (of 16 weights each), f16 d. The weights are eight
// chunks of 32; weight i of chunk c is
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
  // Type of a down projection that was stored in this one, once it is transposed to a row per
  // neuron (or its for_other_rows, where rows of d_model hold no whole blocks of it). Its weights
  // share scales with others then and are rounded again. That adds less than a tenth of the squared
  // error that rounding to this type had made, on normal weights
  // (tests/engine/down_type_test.cc). Q8_0, Q4_1 and Q4_0 stay as they are: nothing is much finer
  // than the first, and files of all three are packed and placed without growing. There it adds
  // about as much again.
  DType for_down;
  bool written = true;  // QuantizeRow makes it
  // Kernels decode it chunk by chunk (runtime/core/weight_chunk.h) into integers, before they use
  // those: right on every device, but not fast.
  bool by_chunks = false;
};

inline constexpr WeightTypeInfo kWeightTypes[] = {
    {.stored = {DType::kF32, "F32", 1, 4, true},
     .about = "32-bit floats",
     .file_type = 0,
     .precision = 18,
     .for_other_rows = DType::kF32,
     .for_vocabulary = DType::kF32,
     .for_down = DType::kF32},
    {.stored = {DType::kF16, "F16", 1, 2, true},
     .about = "16-bit floats",
     .file_type = 1,
     .precision = 17,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kF16,
     .for_down = DType::kF16},
    {.stored = {DType::kBF16, "BF16", 1, 2, true},
     .about = "16-bit floats with the range of 32-bit ones",
     .file_type = 32,
     .precision = 17,
     .for_other_rows = DType::kBF16,
     .for_vocabulary = DType::kBF16,
     .for_down = DType::kBF16},
    {.stored = {DType::kQ8_0, "Q8_0", 32, 34, true},
     .about = "8 bits and a scale per 32 weights",
     .file_type = 7,
     .precision = 16,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ6_K, "Q6_K", 256, 210, true},
     .about = "6 bits, and scales per 16 and 256 weights",
     .file_type = 18,
     .precision = 15,
     .for_other_rows = DType::kQ8_0,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ5_K, "Q5_K", 256, 176, true},
     .about = "5 bits, scales and offsets per 32 and 256 weights",
     .file_type = 16,
     .precision = 13,
     .for_other_rows = DType::kQ5_1,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ5_1, "Q5_1", 32, 24, true},
     .about = "5 bits, a scale and an offset per 32 weights",
     .file_type = 9,
     .precision = 13,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ5_0, "Q5_0", 32, 22, true},
     .about = "5 bits and a scale per 32 weights",
     .file_type = 8,
     .precision = 12,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ4_K, "Q4_K", 256, 144, true},
     .about = "4 bits, scales and offsets per 32 and 256 weights",
     .file_type = 14,
     .precision = 11,
     .for_other_rows = DType::kQ5_0,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ6_K},
    {.stored = {DType::kQ4_1, "Q4_1", 32, 20, true},
     .about = "4 bits, a scale and an offset per 32 weights",
     .file_type = 3,
     .precision = 11,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ4_1},
    {.stored = {DType::kIQ4_NL, "IQ4_NL", 32, 18, true},
     .about = "4 bits on uneven steps, and a scale per 32 weights",
     .file_type = 25,
     .precision = 10,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ4_0, "Q4_0", 32, 18, true},
     .about = "4 bits and a scale per 32 weights",
     .file_type = 2,
     .precision = 9,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ4_0},
    {.stored = {DType::kIQ4_XS, "IQ4_XS", 256, 136, true},
     .about = "4 bits on uneven steps, and scales per 32 and 256 weights",
     .file_type = 30,
     .precision = 9,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ6_K},
    {.stored = {DType::kMXFP4, "MXFP4", 32, 17, true},
     .about = "4-bit floats, and a power of two per 32 weights",
     .file_type = 38,
     .precision = 8,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kIQ3_S, "IQ3_S", 256, 110, true},
     .about = "3 bits as points of a grid",
     .file_type = 26,
     .precision = 7,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ6_K,
     .written = false,
     .by_chunks = true},
    {.stored = {DType::kS3_0, "S3_0", 32, 14, true},
     .about = "3 bits and a scale per 32 weights; a type of ours",
     .file_type = 0x54430003,
     .precision = 7,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kQ3_K, "Q3_K", 256, 110, true},
     .about = "3 bits, and scales per 16 and 256 weights",
     .file_type = 11,
     .precision = 6,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ5_K},
    {.stored = {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, true},
     .about = "3 bits as points of a small grid",
     .file_type = 23,
     .precision = 5,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ5_K,
     .written = false,
     .by_chunks = true},
    {.stored = {DType::kQ2_K, "Q2_K", 256, 84, true},
     .about = "2 bits, scales and offsets per 16 and 256 weights",
     .file_type = 10,
     .precision = 4,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ4_K},
    {.stored = {DType::kIQ2_S, "IQ2_S", 256, 82, true},
     .about = "2 bits as points of a large grid",
     .file_type = 28,
     .precision = 3,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ4_K,
     .written = false,
     .by_chunks = true},
    {.stored = {DType::kS2_0, "S2_0", 32, 10, true},
     .about = "2 bits and a scale per 32 weights; a type of ours",
     .file_type = 0x54430002,
     .precision = 2,
     .for_other_rows = DType::kF16,
     .for_vocabulary = DType::kQ8_0,
     .for_down = DType::kQ8_0},
    {.stored = {DType::kIQ2_XS, "IQ2_XS", 256, 74, true},
     .about = "2 bits as points of a grid",
     .file_type = 20,
     .precision = 2,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ4_K,
     .written = false,
     .by_chunks = true},
    {.stored = {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, true},
     .about = "2 bits as points of a small grid",
     .file_type = 19,
     .precision = 1,
     .for_other_rows = DType::kIQ4_NL,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ4_K,
     .written = false,
     .by_chunks = true},
    {.stored = {DType::kTQ2_0, "TQ2_0", 256, 66, true},
     .about = "-1, 0 and 1 in 2 bits, and a scale per 256 weights",
     .file_type = 37,
     .precision = 0,
     .for_other_rows = DType::kQ4_0,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ8_0,
     .written = false,
     .by_chunks = true},
    {.stored = {DType::kTQ1_0, "TQ1_0", 256, 54, true},
     .about = "-1, 0 and 1, five to a byte, and a scale per 256 weights",
     .file_type = 36,
     .precision = 0,
     .for_other_rows = DType::kQ4_0,
     .for_vocabulary = DType::kQ6_K,
     .for_down = DType::kQ8_0,
     .written = false,
     .by_chunks = true},
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
template <DType kType>
inline constexpr bool kIsByChunks = TraitsOf(kType).by_chunks;

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
// Returns "F32, F16, BF16, ...", for messages: all types of weights, or those that can be written.
std::string WeightDTypeNames();
std::string WrittenDTypeNames();

// Returns `wanted`, or the type that takes its place where rows of n elements hold no whole blocks
// of it (WeightTypeInfo::for_other_rows): in the end one without blocks.
DType FittingType(DType wanted, int64_t n);

// Returns the bytes of a row of n elements. REQUIRES: n is a multiple of the block.
int64_t RowBytes(DType dtype, int64_t n);

}  // namespace thermocline
