// Element types of tensors. The numbers are GGUF's own type ids (ggml's), so that a file's field is
// checked and then cast. Types that we store and compute with are `computable`; of the others only
// the sizes are known, so that `inspect` can list a file that holds them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,   // 32 weights: f16 scale d, 16 bytes of nibbles; weight i (i < 16) is the low nibble
               // of byte i, weight 16 + i its high nibble; value = d * (nibble - 8)
  kQ8_0 = 8,   // 32 weights: f16 scale d, 32 signed bytes; value = d * q
  kQ6_K = 14,  // 256 weights: see kSuperBlock
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
};

inline constexpr int kQuantBlock = 32;  // weights that share a scale in Q4_0 and Q8_0

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
  std::string_view name;  // "F16", "Q4_0", ...
  uint32_t block_elems;   // elements in a block
  uint32_t block_bytes;   // bytes of a block
  bool computable;        // F32, F16, BF16, Q8_0, Q6_K, Q4_0
};

// The entry of a GGUF type id, or nullptr for an id nobody knows.
const DTypeInfo* FindDType(uint32_t gguf_type_id);
const DTypeInfo& GetDTypeInfo(DType dtype);
std::string_view DTypeName(DType dtype);

// "f16", "Q8_0", ... in any case; nullopt for a name that is not a computable type.
std::optional<DType> ParseWeightDType(std::string_view name);
// "F32, F16, BF16, Q8_0, Q6_K, Q4_0", for messages.
std::string WeightDTypeNames();

// Bytes of a row of n elements. REQUIRES: n is a multiple of the block.
int64_t RowBytes(DType dtype, int64_t n);

}  // namespace thermocline
