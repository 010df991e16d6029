// A row of quantised weights as chunks of 32: small integers with a scale and an offset per 16 of
// them. It is the plain description of every quantised type's bits, for whatever need not be fast
// (plain C++ kernels, packing for a GPU) and for the types whose kernels decode chunk by chunk.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline {

inline constexpr int kChunkScaled = 16;  // weights of a chunk that share a scale

// Weight i is scales[i / 16] * quants[i] + offsets[i / 16]: the product is exact in f32, and the
// sum is rounded once.
struct WeightChunk {
  int8_t quants[kQuantBlock];
  float scales[kQuantBlock / kChunkScaled];
  float offsets[kQuantBlock / kChunkScaled];
};

// Reads weights 32 * chunk ... 32 * chunk + 31 of a row. row: at any address. REQUIRES: a quantised
// type; the chunk lies within the row.
void ReadWeightChunk(DType dtype, const std::byte* row, int64_t chunk, WeightChunk* out);

// For a loop over chunks: the function that reads those of a type. block: the start of the block
// that holds the chunk; c: which of its chunks it is.
using ChunkReader = void (*)(const std::byte* block, int64_t c, WeightChunk* out);
ChunkReader ChunkReaderOf(DType dtype);

}  // namespace thermocline
