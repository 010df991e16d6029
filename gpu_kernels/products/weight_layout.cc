#include "gpu_kernels/products/weight_layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/core/quant_values.h"
#include "runtime/core/weight_chunk.h"

namespace thermocline {
namespace {

constexpr int64_t kRowAlignment = 16;
constexpr int64_t kScaleBytes = 2;
constexpr int64_t kTableBytes = 16;  // of kGpuGridType

// Splits a row of blocks, each an f16 scale (kScales: and what else is f16) and its weights, into
// weights and scales.
template <DType kType, int kScales = 1>
void SplitBlocks(const std::byte* row, int64_t cols, std::byte flip, std::byte* weights) {
  constexpr int64_t kScalesBytes = kScales * kScaleBytes;
  constexpr int64_t kWeightBytes = kTypeBlockBytes<kType> - kScalesBytes;
  const int64_t n_blocks = cols / kTypeBlockElems<kType>;
  std::byte* const scales = weights + n_blocks * kWeightBytes;
  for (int64_t b = 0; b < n_blocks; ++b) {
    const std::byte* const block = row + b * kTypeBlockBytes<kType>;
    std::memcpy(scales + b * kScalesBytes, block, kScalesBytes);
    for (int64_t i = 0; i < kWeightBytes; ++i) {
      weights[b * kWeightBytes + i] = block[kScalesBytes + i] ^ flip;
    }
  }
}

// What the planes of a row are made of, for types whose bits are rearranged.
struct PlaneBits {
  int low = 4;          // bits of a weight in the first plane
  int high = 0;         // and in the second
  int factors = 0;      // bits of 32 weights' small factors, made from the chunk's
  int64_t kept_at = 0;  // where a block has bytes that are kept as they are, last in the row
  int64_t kept_bytes = 2;
};

constexpr PlaneBits PlaneBitsOf(DType dtype) {
  switch (dtype) {
    case DType::kQ5_0:
      return {.high = 1};
    case DType::kQ5_1:
      return {.high = 1, .kept_bytes = 4};
    case DType::kQ2_K:
      return {.low = 2, .factors = 16, .kept_at = 80, .kept_bytes = 4};
    case DType::kQ3_K:
      return {.low = 2, .high = 1, .factors = 12, .kept_at = 108};
    case DType::kQ4_K:
      return {.factors = 12, .kept_bytes = 4};
    case DType::kQ5_K:
      return {.high = 1, .factors = 12, .kept_bytes = 4};
    case DType::kQ6_K:
      return {.high = 2, .factors = 16, .kept_at = 208};
    case DType::kIQ4_NL:
      return {};
    case DType::kIQ4_XS:
      return {.kept_bytes = 8};
    case DType::kMXFP4:
      return {.kept_bytes = 1};
    case DType::kTQ1_0:
      return {.factors = 8, .kept_at = 52};
    case DType::kTQ2_0:
      return {.factors = 8, .kept_at = 64};
    default:
      return {.factors = 8};  // the grids
  }
}

// Returns the bytes that a block takes in the planes.
constexpr int64_t BlockBytesOf(DType dtype) {
  const PlaneBits bits = PlaneBitsOf(dtype);
  const int64_t chunks = TraitsOf(dtype).stored.block_elems / kQuantBlock;
  return chunks * (kQuantBlock * (bits.low + bits.high) + bits.factors) / 8 + bits.kept_bytes;
}

// The bytes that nibbles name.
using ByteTable = std::array<int8_t, 16>;

// Up to eight levels, times a factor, and their negatives.
template <size_t kCount>
constexpr ByteTable SignedLevels(const int8_t (&levels)[kCount], int factor) {
  ByteTable table = {};
  for (size_t i = 0; i < kCount; ++i) {
    table[i] = static_cast<int8_t>(levels[i] * factor);
    table[8 + i] = static_cast<int8_t>(-levels[i] * factor);
  }
  return table;
}

constexpr int8_t kLevelsTernary[3] = {0, 1, 2};  // two bits may also say 2

// What a type's integers are multiplied by in its table, so that all share the factor 1/8.
constexpr int TableFactor(DType dtype) {
  switch (dtype) {
    case DType::kIQ3_XXS:
      return 2;
    case DType::kIQ3_S:
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return 8;
    default:
      return 1;
  }
}

// REQUIRES: a type that is kGpuGridType on the GPU.
constexpr ByteTable TableOf(DType dtype) {
  switch (dtype) {
    case DType::kIQ2_XXS:
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
      return SignedLevels(kLevelsIq2, TableFactor(dtype));
    case DType::kIQ3_XXS:
      return SignedLevels(kLevelsIq3Xxs, TableFactor(dtype));
    case DType::kIQ3_S:
      return SignedLevels(kLevelsIq3S, TableFactor(dtype));
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return SignedLevels(kLevelsTernary, TableFactor(dtype));
    default:
      return {};
  }
}

// Returns the nibble for each of a type's integers, as an unsigned byte; the first of several.
constexpr std::array<uint8_t, 256> NibblesOf(DType dtype) {
  const ByteTable table = TableOf(dtype);
  std::array<uint8_t, 256> nibbles = {};
  for (size_t i = table.size(); i-- > 0;) {
    nibbles[static_cast<uint8_t>(table[i] / TableFactor(dtype))] = static_cast<uint8_t>(i);
  }
  return nibbles;
}

// A chunk's weights as two's complement, or as nibbles of a table: word g holds weights 4 g ...,
// a byte each.
using ChunkWords = std::array<uint32_t, kQuantBlock / 4>;

template <DType kType>
ChunkWords WordsOf(const WeightChunk& chunk) {
  ChunkWords words;
  static_assert(sizeof(words) == sizeof(chunk.quants));
  if constexpr (kIsByChunks<kType>) {
    static constexpr std::array<uint8_t, 256> kNibbles = NibblesOf(kType);
    std::array<uint8_t, kQuantBlock> nibbles;
    for (size_t i = 0; i < kQuantBlock; ++i) {
      nibbles[i] = kNibbles[static_cast<uint8_t>(chunk.quants[i])];
    }
    std::memcpy(words.data(), nibbles.data(), sizeof(words));
  } else {
    std::memcpy(words.data(), chunk.quants, sizeof(words));
  }
  return words;
}

// Where blocks of types without small factors have the nibbles of their first chunk, in the order
// of Q4_0; 32 fifth bits lie before them.
constexpr int64_t NibblesAt(DType dtype) {
  switch (dtype) {
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
    case DType::kIQ4_XS:
      return 8;
    case DType::kIQ4_NL:
      return 2;
    case DType::kMXFP4:
      return 1;
    default:
      return 0;
  }
}

template <DType kType>
ChunkWords ReadNibbles(const std::byte* block, int64_t chunk) {
  static_assert(NibblesAt(kType) > 0, "say where the type has nibbles");
  const std::byte* const nibbles = block + NibblesAt(kType) + chunk * (kQuantBlock / 2);
  ChunkWords words;
  for (size_t i = 0; i < 4; ++i) {
    uint32_t both = 0;
    std::memcpy(&both, nibbles + 4 * i, sizeof(both));
    words[i] = both & 0x0f0f0f0fU;
    words[4 + i] = both >> 4 & 0x0f0f0f0fU;
  }
  if constexpr (PlaneBitsOf(kType).high == 1) {
    uint32_t fifth = 0;
    std::memcpy(&fifth, nibbles - sizeof(fifth), sizeof(fifth));
    if constexpr (kType == DType::kQ5_0) fifth = ~fifth;  // 16 is taken away
    // The product has four bits at the bottom of four bytes.
    for (size_t g = 0; g < words.size(); ++g) {
      words[g] |= ((fifth >> (4 * g) & 15) * 0x00204081U & 0x01010101U) << 4;
    }
  }
  return words;
}

// Whether nibbles stand for bytes, which lie in order.
constexpr bool NamesBytes(DType dtype) {
  return dtype == DType::kIQ4_NL || dtype == DType::kIQ4_XS || dtype == DType::kMXFP4 ||
         GpuDType(dtype) == kGpuGridType;
}

// The nibble of weight i and above it that of weight 16 + i.
void PutNibbles(const ChunkWords& words, std::byte* out) {
  std::array<uint32_t, 4> packed;
  for (size_t i = 0; i < packed.size(); ++i) {
    packed[i] = (words[i] & 0x0f0f0f0fU) | (words[i + 4] & 0x0f0f0f0fU) << 4;
  }
  std::memcpy(out, packed.data(), sizeof(packed));
}

// The nibble of weight 2 i and above it that of weight 2 i + 1.
void PutNibblesInOrder(const ChunkWords& words, std::byte* out) {
  std::array<uint16_t, 8> packed;
  for (size_t i = 0; i < packed.size(); ++i) {
    // Four bytes of a nibble each become two of two.
    const uint32_t pairs = (words[i] | words[i] >> 4) & 0x00ff00ffU;
    packed[i] = static_cast<uint16_t>(pairs | pairs >> 8);
  }
  std::memcpy(out, packed.data(), sizeof(packed));
}

// Two bits of each weight, from bit `shift` on.
void PutPairs(const ChunkWords& words, int shift, std::byte* out) {
  std::array<uint32_t, 2> packed = {};
  for (size_t g = 0; g < words.size(); ++g) {
    packed[g / 4] |= (words[g] >> shift & 0x03030303U) << (g % 4 * 2);
  }
  std::memcpy(out, packed.data(), sizeof(packed));
}

// Bit `shift` of each weight.
void PutBits(const ChunkWords& words, int shift, std::byte* out) {
  uint32_t packed = 0;
  for (size_t g = 0; g < words.size(); ++g) packed |= (words[g] >> shift & 0x01010101U) << g;
  std::memcpy(out, &packed, sizeof(packed));
}

// Returns a chunk's small factors, given the chunk of a block whose f16 factors are 1.
template <DType kType>
unsigned FactorBits(const WeightChunk& chunk) {
  const auto number = [](float value) { return static_cast<unsigned>(static_cast<int>(value)); };
  const unsigned first = number(chunk.scales[0]);
  const unsigned second = number(chunk.scales[1]);
  if constexpr (kType == DType::kQ2_K) {
    return first | number(-chunk.offsets[0]) << 4 | second << 8 | number(-chunk.offsets[1]) << 12;
  } else if constexpr (kType == DType::kQ3_K) {
    return (first + 32) | (second + 32) << 6;
  } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
    return first | number(-chunk.offsets[0]) << 6;
  } else if constexpr (kType == DType::kQ6_K) {
    return (first & 255U) | (second & 255U) << 8;
  } else {
    static_assert(kIsByChunks<kType>, "say what small factors the type has");
    // A scale is (2 s + 1) / 8 of the table's bytes.
    constexpr float kEighths = 8.0F / TableFactor(kType);
    return number(chunk.scales[0] * kEighths) / 2 | number(chunk.scales[1] * kEighths) / 2 << 4;
  }
}

// Stores the factors of chunk c of a row into planes of zeros.
template <DType kType>
void PutFactors(unsigned bits, int64_t c, int64_t cols, std::byte* out) {
  constexpr int kBits = PlaneBitsOf(kType).factors;
  if constexpr (kBits == 16) {
    const auto both = static_cast<uint16_t>(bits);
    std::memcpy(out + 2 * c, &both, sizeof(both));
  } else {
    out[c] = static_cast<std::byte>(bits & 255U);
    if constexpr (kBits == 12) {
      out[cols / kQuantBlock + c / 2] |= static_cast<std::byte>(bits >> 8 << (c % 2 * 4));
    }
  }
}

// A chunk's weights into the planes of its row.
template <DType kType>
void PutWeights(const ChunkWords& words, int64_t c, std::byte* low, std::byte* high) {
  constexpr PlaneBits kBits = PlaneBitsOf(kType);
  low += c * (kQuantBlock / 8 * kBits.low);
  high += c * (kQuantBlock / 8 * kBits.high);
  if constexpr (NamesBytes(kType)) {
    PutNibblesInOrder(words, low);
  } else if constexpr (kBits.low == 4) {
    PutNibbles(words, low);
  } else {
    PutPairs(words, 0, low);
  }
  if constexpr (kBits.high == 1) PutBits(words, kBits.low, high);
  if constexpr (kBits.high == 2) PutPairs(words, kBits.low, high);
}

// A row's blocks into planes that hold zeros.
template <DType kType>
void PackPlanes(const std::byte* row, int64_t cols, std::byte* low) {
  constexpr PlaneBits kBits = PlaneBitsOf(kType);
  constexpr int64_t kBytes = kTypeBlockBytes<kType>;
  constexpr int64_t kChunks = kTypeBlockElems<kType> / kQuantBlock;
  std::byte* const high = low + cols * kBits.low / 8;
  std::byte* const factors = high + cols * kBits.high / 8;
  std::byte* const kept = factors + cols / kQuantBlock * kBits.factors / 8;
  for (int64_t b = 0; b < cols / kTypeBlockElems<kType>; ++b) {
    const std::byte* const block = row + b * kBytes;
    std::memcpy(kept + b * kBits.kept_bytes, block + kBits.kept_at,
                static_cast<size_t>(kBits.kept_bytes));
    if constexpr (kBits.factors == 0) {
      for (int64_t c = 0; c < kChunks; ++c) {
        PutWeights<kType>(ReadNibbles<kType>(block, c), b * kChunks + c, low, high);
      }
    } else {
      // What is kept is f16 factors. Where they are 1, a chunk's factors are the small ones.
      constexpr uint16_t kF16One = 0x3c00;
      std::array<std::byte, static_cast<size_t>(kBytes)> unit;
      std::memcpy(unit.data(), block, unit.size());
      for (int64_t i = 0; i < kBits.kept_bytes; i += kScaleBytes) {
        std::memcpy(unit.data() + kBits.kept_at + i, &kF16One, sizeof(kF16One));
      }
      const ChunkReader read = ChunkReaderOf(kType);
      for (int64_t c = 0; c < kChunks; ++c) {
        WeightChunk chunk;
        read(unit.data(), c, &chunk);
        PutWeights<kType>(WordsOf<kType>(chunk), b * kChunks + c, low, high);
        PutFactors<kType>(FactorBits<kType>(chunk), b * kChunks + c, cols, factors);
      }
    }
  }
}

// The blocks of a type whose weights are odd multiples of a scale, up to 7 times, as those of Q4_0.
template <DType kType>
std::vector<std::byte> AsQ4_0(const std::byte* row, int64_t cols) {
  constexpr int kQ4Zero = 8;
  std::vector<std::byte> blocks(static_cast<size_t>(RowBytes(DType::kQ4_0, cols)));
  for (int64_t b = 0; b < cols / kQuantBlock; ++b) {
    std::byte* const out = blocks.data() + b * kTypeBlockBytes<DType::kQ4_0>;
    WeightChunk chunk;
    ReadWeightChunk(kType, row, b, &chunk);
    std::memcpy(out, row + b * kTypeBlockBytes<kType>, kScaleBytes);
    for (int i = 0; i < kQuantBlock / 2; ++i) {
      out[kScaleBytes + i] = static_cast<std::byte>(
          (chunk.quants[i] + kQ4Zero) | (chunk.quants[i + kQuantBlock / 2] + kQ4Zero) << 4);
    }
  }
  return blocks;
}

// Packs a row into memory that holds zeros.
template <DType kType>
void PackRow(const std::byte* row, int64_t cols, std::byte* packed) {
  constexpr std::byte kFlipSigns{0x88};
  if constexpr (!kIsQuantised<kType>) {
    std::memcpy(packed, row, static_cast<size_t>(RowBytes(kType, cols)));
  } else if constexpr (kType == DType::kQ8_0) {
    SplitBlocks<kType>(row, cols, std::byte{0}, packed);
  } else if constexpr (kType == DType::kQ4_0) {
    SplitBlocks<kType>(row, cols, kFlipSigns, packed);
  } else if constexpr (GpuDType(kType) == DType::kQ4_0) {
    PackRow<DType::kQ4_0>(AsQ4_0<kType>(row, cols).data(), cols, packed);
  } else if constexpr (kType == DType::kQ4_1) {
    SplitBlocks<kType, 2>(row, cols, std::byte{0}, packed);
  } else if constexpr (kIsByChunks<kType>) {
    static constexpr ByteTable kTable = TableOf(kType);
    static_assert(sizeof(kTable) == kTableBytes && kTable != ByteTable{},
                  "say which bytes the type's nibbles name");
    std::memcpy(packed, kTable.data(), sizeof(kTable));
    PackPlanes<kType>(row, cols, packed + kTableBytes);
  } else {
    static_assert(BlockBytesOf(kType) == kTypeBlockBytes<kType>,
                  "say how rows of the type lie on the GPU");
    PackPlanes<kType>(row, cols, packed);
  }
}

}  // namespace

int64_t GpuPaddedCols(int64_t cols) { return AlignUp(cols, kQuantBlock); }

int64_t GpuRowBytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  CHECK(info.computable && cols % info.block_elems == 0);
  if (GpuDType(dtype) == kGpuGridType) {
    const int64_t planes = cols / info.block_elems * BlockBytesOf(kGpuGridType);
    return AlignUp(kTableBytes + planes, kRowAlignment);
  }
  return AlignUp(RowBytes(GpuDType(dtype), GpuPaddedCols(cols)), kRowAlignment);
}

GpuMatrix MakeGpuMatrix(const void* data, DType dtype, int64_t rows, int64_t cols) {
  return {dtype, rows, cols, GpuRowBytes(dtype, cols), static_cast<const std::byte*>(data)};
}

void PackGpuRows(DType dtype, const std::byte* rows, int64_t row_stride_bytes, int64_t n_rows,
                 int64_t cols, std::byte* out) {
  const int64_t row_bytes = GpuRowBytes(dtype, cols);
  VisitWeightType(dtype, [&](auto type) {
    for (int64_t r = 0; r < n_rows; ++r) {
      std::byte* const packed = out + r * row_bytes;
      std::memset(packed, 0, static_cast<size_t>(row_bytes));
      PackRow<type()>(rows + r * row_stride_bytes, cols, packed);
    }
  });
}

}  // namespace thermocline
