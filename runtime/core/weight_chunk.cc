// The bits of every quantised type. A format's numbers are little-endian; d and the like are f16.
#include "runtime/core/weight_chunk.h"

#include <array>
#include <bit>
#include <cstring>

#include "runtime/core/error.h"
#include "runtime/core/half.h"
#include "runtime/core/q6_k_block.h"
#include "runtime/core/quant_grids.h"
#include "runtime/core/quant_values.h"

namespace thermocline {
namespace {

constexpr int kHalf = kQuantBlock / 2;

unsigned ByteAt(const std::byte* p) { return std::to_integer<unsigned>(*p); }
uint16_t WordAt(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}
uint32_t LongAt(const std::byte* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}
float HalfAt(const std::byte* p) { return F16ToF32(WordAt(p)); }

void SetFactors(float scale, float offset, WeightChunk* out) {
  out->scales[0] = out->scales[1] = scale;
  out->offsets[0] = out->offsets[1] = offset;
}

// Nibbles of a block of 32: weight i is the low nibble of byte i, weight 16 + i its high one.
unsigned NibbleOf(const std::byte* bytes, int i) {
  return ByteAt(bytes + i % kHalf) >> (i < kHalf ? 0 : 4) & 15;
}

template <DType kType>
struct Format {
  static_assert(kHandlesType<kType>, "say how a chunk of the type is read");
};

template <>
struct Format<DType::kQ8_0> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    std::memcpy(out->quants, block + 2, kQuantBlock);
    SetFactors(HalfAt(block), 0, out);
  }
};

template <>
struct Format<DType::kQ4_0> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(static_cast<int>(NibbleOf(block + 2, i)) - 8);
    }
    SetFactors(HalfAt(block), 0, out);
  }
};

template <>
struct Format<DType::kQ4_1> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(NibbleOf(block + 4, i));
    }
    SetFactors(HalfAt(block), HalfAt(block + 2), out);
  }
};

// Pairs of bits of 32 weights: weight 8 s + j is bits 2 s and 2 s + 1 of byte j.
unsigned SpreadPairOf(const std::byte* bytes, int i) {
  return ByteAt(bytes + i % 8) >> (i / 8 * 2) & 3;
}

// d, pairs; value d * (2 q - 3).
template <>
struct Format<DType::kS2_0> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(2 * static_cast<int>(SpreadPairOf(block + 2, i)) - 3);
    }
    SetFactors(HalfAt(block), 0, out);
  }
};

// d, pairs, 32 third bits; value d * (2 q - 7).
template <>
struct Format<DType::kS3_0> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    const uint32_t third = LongAt(block + 10);
    for (int i = 0; i < kQuantBlock; ++i) {
      const unsigned q = SpreadPairOf(block + 2, i) | (third >> i & 1) << 2;
      out->quants[i] = static_cast<int8_t>(2 * static_cast<int>(q) - 7);
    }
    SetFactors(HalfAt(block), 0, out);
  }
};

// d, 32 fifth bits (weight i's is bit i), nibbles; value d * (q - 16).
template <>
struct Format<DType::kQ5_0> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    const uint32_t fifth = LongAt(block + 2);
    for (int i = 0; i < kQuantBlock; ++i) {
      const unsigned q = NibbleOf(block + 6, i) | (fifth >> i & 1) << 4;
      out->quants[i] = static_cast<int8_t>(static_cast<int>(q) - 16);
    }
    SetFactors(HalfAt(block), 0, out);
  }
};

// d, m, 32 fifth bits, nibbles; value d * q + m.
template <>
struct Format<DType::kQ5_1> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    const uint32_t fifth = LongAt(block + 4);
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(NibbleOf(block + 8, i) | (fifth >> i & 1) << 4);
    }
    SetFactors(HalfAt(block), HalfAt(block + 2), out);
  }
};

// d, nibbles that stand for uneven steps.
template <>
struct Format<DType::kIQ4_NL> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) out->quants[i] = kUnevenNibbles[NibbleOf(block + 2, i)];
    SetFactors(HalfAt(block), 0, out);
  }
};

// A byte e, nibbles that stand for floats of four bits, doubled; the scale is 2^(e - 128).
template <>
struct Format<DType::kMXFP4> {
  static void Read(const std::byte* block, int64_t /*c*/, WeightChunk* out) {
    const uint32_t e = ByteAt(block);
    for (int i = 0; i < kQuantBlock; ++i) out->quants[i] = kFloatNibbles[NibbleOf(block + 1, i)];
    // The two smallest are subnormal.
    SetFactors(std::bit_cast<float>(e < 2 ? 0x200000U << e : (e - 1) << 23), 0, out);
  }
};

// Two planes of bytes, 64 to a plane's row of four: weight i of chunk c is bits 2 (c % 4) of byte
// 32 (c / 4) + i.
unsigned PairOf(const std::byte* bytes, int64_t c, int i) {
  return ByteAt(bytes + c / 4 * kQuantBlock + i) >> (c % 4 * 2) & 3;
}

// 16 bytes (a scale's four bits, an offset's above them, of 16 weights each), pairs, d, dmin; value
// d * scale * q - dmin * offset.
template <>
struct Format<DType::kQ2_K> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(PairOf(block + 16, c, i));
    }
    for (int g = 0; g < 2; ++g) {
      const unsigned both = ByteAt(block + 2 * c + g);
      out->scales[g] = HalfAt(block + 80) * static_cast<float>(both & 15);
      out->offsets[g] = -HalfAt(block + 82) * static_cast<float>(both >> 4);
    }
  }
};

// 32 bytes of third bits (weight i of chunk c has bit c of byte i; where it is 0, 4 is taken away),
// pairs, 12 bytes of scales less 32 (of 16 weights each: four low bits, then two high ones), d.
template <>
struct Format<DType::kQ3_K> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      const bool high = (ByteAt(block + i) >> c & 1) != 0;
      out->quants[i] =
          static_cast<int8_t>(static_cast<int>(PairOf(block + 32, c, i)) - (high ? 0 : 4));
    }
    const std::byte* const packed = block + 96;
    for (int g = 0; g < 2; ++g) {
      const auto s = static_cast<int>(2 * c + g);
      const unsigned low = ByteAt(packed + s % 8) >> (s < 8 ? 0 : 4) & 15;
      const unsigned high = ByteAt(packed + 8 + s % 4) >> (s / 4 * 2) & 3;
      const int scale = static_cast<int>(low | high << 4) - 32;
      out->scales[g] = HalfAt(block + 108) * static_cast<float>(scale);
      out->offsets[g] = 0;
    }
  }
};

// d, dmin, then 12 bytes of six-bit scales and offsets: those of the first four chunks in the low
// bits of bytes 0-3 and 4-7, of the others four bits in bytes 8-11 and two in the high bits of the
// first eight. Value d * scale * q - dmin * offset.
void SetPackedFactors(const std::byte* block, int64_t c, WeightChunk* out) {
  const std::byte* const packed = block + 4;
  unsigned scale = 0;
  unsigned offset = 0;
  if (c < 4) {
    scale = ByteAt(packed + c) & 63;
    offset = ByteAt(packed + 4 + c) & 63;
  } else {
    const unsigned low = ByteAt(packed + 4 + c);
    scale = (low & 15) | ByteAt(packed + c - 4) >> 6 << 4;
    offset = low >> 4 | ByteAt(packed + c) >> 6 << 4;
  }
  SetFactors(HalfAt(block) * static_cast<float>(scale),
             -HalfAt(block + 2) * static_cast<float>(offset), out);
}

// Two chunks share 32 bytes, the first in the low nibbles.
unsigned PairedNibbleOf(const std::byte* bytes, int64_t c, int i) {
  return ByteAt(bytes + c / 2 * kQuantBlock + i) >> (c % 2 * 4) & 15;
}

template <>
struct Format<DType::kQ4_K> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(PairedNibbleOf(block + 16, c, i));
    }
    SetPackedFactors(block, c, out);
  }
};

// As Q4_K, with 32 bytes of fifth bits before the nibbles: weight i of chunk c has bit c of byte i.
template <>
struct Format<DType::kQ5_K> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      const unsigned fifth = ByteAt(block + 16 + i) >> c & 1;
      out->quants[i] = static_cast<int8_t>(PairedNibbleOf(block + 48, c, i) | fifth << 4);
    }
    SetPackedFactors(block, c, out);
  }
};

template <>
struct Format<DType::kQ6_K> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      const unsigned low = ByteAt(block + q6_k::LowAt(c) + i) >> q6_k::LowShift(c) & 15;
      const unsigned high = ByteAt(block + q6_k::HighAt(c) + i) >> q6_k::HighShift(c) & 3;
      out->quants[i] = static_cast<int8_t>(static_cast<int>(low | high << 4) - 32);
    }
    for (int g = 0; g < 2; ++g) {
      const auto scale = static_cast<int8_t>(ByteAt(block + q6_k::kScalesAt + 2 * c + g));
      out->scales[g] = HalfAt(block + q6_k::kDAt) * static_cast<float>(scale);
      out->offsets[g] = 0;
    }
  }
};

// d, 16 bits with the two high bits of each chunk's scale, 4 bytes with its four low ones, and 16
// bytes of nibbles a chunk, as IQ4_NL has them; scales are less 32.
template <>
struct Format<DType::kIQ4_XS> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = kUnevenNibbles[NibbleOf(block + 8 + c * kHalf, i)];
    }
    const unsigned low = ByteAt(block + 4 + c / 2) >> (c % 2 * 4) & 15;
    const unsigned high = static_cast<unsigned>(WordAt(block + 2)) >> (2 * c) & 3;
    const int scale = static_cast<int>(low | high << 4) - 32;
    SetFactors(HalfAt(block) * static_cast<float>(scale), 0, out);
  }
};

// A grid's points as their bytes, one after the other in a word: eight of IQ2, four of IQ3.
template <typename Word, size_t kPoints, size_t kLevels>
constexpr std::array<Word, kPoints> WordsOf(const uint16_t (&grid)[kPoints],
                                            const int8_t (&levels)[kLevels]) {
  constexpr size_t kBits = kLevels == 4 ? 2 : 3;
  std::array<Word, kPoints> words = {};
  for (size_t p = 0; p < kPoints; ++p) {
    for (size_t i = 0; i < sizeof(Word); ++i) {
      const int8_t level = levels[grid[p] >> (kBits * i) & (kLevels - 1)];
      words[p] |= static_cast<Word>(static_cast<uint8_t>(level)) << (8 * i);
    }
  }
  return words;
}
constexpr auto kPointsIq2Xxs = WordsOf<uint64_t>(kGridIq2Xxs, kLevelsIq2);
constexpr auto kPointsIq2Xs = WordsOf<uint64_t>(kGridIq2Xs, kLevelsIq2);
constexpr auto kPointsIq2S = WordsOf<uint64_t>(kGridIq2S, kLevelsIq2);
constexpr auto kPointsIq3Xxs = WordsOf<uint32_t>(kGridIq3Xxs, kLevelsIq3Xxs);
constexpr auto kPointsIq3S = WordsOf<uint32_t>(kGridIq3S, kLevelsIq3S);

// Eight bits as bytes of 0 or 255.
constexpr auto kByteMasks = [] {
  std::array<uint64_t, 256> masks = {};
  for (size_t bits = 0; bits < masks.size(); ++bits) {
    for (size_t i = 0; i < 8; ++i) masks[bits] |= (bits >> i & 1) * uint64_t{255} << (8 * i);
  }
  return masks;
}();

// Puts eight magnitudes, none of them 0, with the signs whose bits are set, from `at` on. A byte's
// negative is its complement plus 1, and no byte carries into the next.
void PutPoint(uint64_t magnitudes, unsigned signs, int at, WeightChunk* out) {
  const uint64_t mask = kByteMasks[signs];
  const uint64_t values = (magnitudes ^ mask) + (mask & 0x0101010101010101);
  std::memcpy(out->quants + at, &values, sizeof(values));
}
uint64_t Join(uint32_t first, uint32_t second) {
  return first | static_cast<uint64_t>(second) << 32;
}

// Seven signs of eight are stored: an even number of them is set.
unsigned EvenSigns(unsigned seven) {
  return seven | (static_cast<unsigned>(std::popcount(seven)) & 1) << 7;
}

// d, then per chunk four numbers of points and 32 bits: four times seven signs, and a scale; value
// d * (scale + 1/2) / 4 * point.
template <>
struct Format<DType::kIQ2_XXS> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    const std::byte* const points = block + 2 + 8 * c;
    const uint32_t rest = LongAt(points + 4);
    for (int g = 0; g < 4; ++g) {
      PutPoint(kPointsIq2Xxs[ByteAt(points + g)], EvenSigns(rest >> (7 * g) & 127), 8 * g, out);
    }
    SetFactors(HalfAt(block) * (0.5F + static_cast<float>(rest >> 28)) * 0.25F, 0, out);
  }
};

// Sets the scales of two nibbles, the low one first: d * (scale + 1/2) / 4 each.
void SetNibbleScales(float d, unsigned both, WeightChunk* out) {
  for (unsigned g = 0; g < 2; ++g) {
    out->scales[g] = d * (0.5F + static_cast<float>(both >> (4 * g) & 15)) * 0.25F;
    out->offsets[g] = 0;
  }
}

// d, 32 words (nine bits of a point, seven signs), 8 bytes of two scales (of 16 weights each).
template <>
struct Format<DType::kIQ2_XS> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int g = 0; g < 4; ++g) {
      const unsigned word = WordAt(block + 2 + 8 * c + 2 * g);
      PutPoint(kPointsIq2Xs[word & 511], EvenSigns(word >> 9), 8 * g, out);
    }
    SetNibbleScales(HalfAt(block), ByteAt(block + 66 + c), out);
  }
};

// d, 32 bytes of points, 32 bytes of signs, 8 bytes of the points' two high bits, 8 of scales.
template <>
struct Format<DType::kIQ2_S> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int g = 0; g < 4; ++g) {
      const int64_t at = 4 * c + g;
      const unsigned high = ByteAt(block + 66 + c) >> (2 * g) & 3;
      PutPoint(kPointsIq2S[ByteAt(block + 2 + at) | high << 8], ByteAt(block + 34 + at), 8 * g,
               out);
    }
    SetNibbleScales(HalfAt(block), ByteAt(block + 74 + c), out);
  }
};

// d, 64 bytes of points, then 32 bits per chunk as IQ2_XXS has them; value d * (scale + 1/2) / 2 *
// point.
template <>
struct Format<DType::kIQ3_XXS> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    const uint32_t rest = LongAt(block + 66 + 4 * c);
    const std::byte* const points = block + 2 + 8 * c;
    for (int g = 0; g < 4; ++g) {
      const uint64_t point =
          Join(kPointsIq3Xxs[ByteAt(points + 2 * g)], kPointsIq3Xxs[ByteAt(points + 2 * g + 1)]);
      PutPoint(point, EvenSigns(rest >> (7 * g) & 127), 8 * g, out);
    }
    SetFactors(HalfAt(block) * (0.5F + static_cast<float>(rest >> 28)) * 0.5F, 0, out);
  }
};

// d, 64 bytes of points, 8 bytes of their ninth bits, 32 of signs, 4 of scales; value d * (1 + 2
// scale) * point.
template <>
struct Format<DType::kIQ3_S> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    const std::byte* const points = block + 2 + 8 * c;
    const unsigned high = ByteAt(block + 66 + c);
    for (int g = 0; g < 4; ++g) {
      const unsigned two = high >> (2 * g);
      const uint64_t point = Join(kPointsIq3S[ByteAt(points + 2 * g) | (two & 1) << 8],
                                  kPointsIq3S[ByteAt(points + 2 * g + 1) | (two >> 1 & 1) << 8]);
      PutPoint(point, ByteAt(block + 74 + 4 * c + g), 8 * g, out);
    }
    const unsigned scale = ByteAt(block + 106 + c / 2) >> (c % 2 * 4) & 15;
    SetFactors(HalfAt(block) * static_cast<float>(1 + 2 * scale), 0, out);
  }
};

// Pairs, d; value d * (q - 1).
template <>
struct Format<DType::kTQ2_0> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    for (int i = 0; i < kQuantBlock; ++i) {
      out->quants[i] = static_cast<int8_t>(static_cast<int>(PairOf(block, c, i)) - 1);
    }
    SetFactors(HalfAt(block + 64), 0, out);
  }
};

// Five weights to a byte, which is a fraction of 256 in base 3: 32 bytes hold the first 160 weights
// (their first digits, then their second ones, ...), 16 bytes the next 80, and 4 bytes the last 16
// in four digits; then d. Value d * (digit - 1).
template <>
struct Format<DType::kTQ1_0> {
  static void Read(const std::byte* block, int64_t c, WeightChunk* out) {
    if (c < 5) {
      ReadDigits<kQuantBlock>(block, kPowers[c], out->quants);
    } else if (c < 7) {
      ReadDigits<kHalf>(block + 32, kPowers[2 * c - 10], out->quants);
      ReadDigits<kHalf>(block + 32, kPowers[2 * c - 9], out->quants + kHalf);
    } else {
      ReadDigits<kHalf>(block + 32, kPowers[4], out->quants);
      for (int i = 0; i < 4; ++i) {
        ReadDigits<4>(block + 48, kPowers[i], out->quants + kHalf + 4 * i);
      }
    }
    SetFactors(HalfAt(block + 52), 0, out);
  }

 private:
  static constexpr unsigned kPowers[] = {1, 3, 9, 27, 81};

  // One digit of each of kCount bytes.
  template <int kCount>
  static void ReadDigits(const std::byte* bytes, unsigned power, int8_t* out) {
    for (int i = 0; i < kCount; ++i) {
      const auto rest = static_cast<uint8_t>(ByteAt(bytes + i) * power);
      out[i] = static_cast<int8_t>((rest * 3 >> 8) - 1);
    }
  }
};

}  // namespace

ChunkReader ChunkReaderOf(DType dtype) {
  return VisitWeightType(dtype, [](auto type) -> ChunkReader {
    if constexpr (kIsQuantised<type()>) {
      return Format<type()>::Read;
    } else {
      CheckFailed(__FILE__, __LINE__, "a quantised type");
    }
  });
}

void ReadWeightChunk(DType dtype, const std::byte* row, int64_t chunk, WeightChunk* out) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const int64_t chunks = info.block_elems / kQuantBlock;
  ChunkReaderOf(dtype)(row + chunk / chunks * info.block_bytes, chunk % chunks, out);
}

}  // namespace thermocline
