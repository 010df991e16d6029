// The GEMM in integers for AVX2, with and without VNNI.
//
// A block of k (Op::kBlock, 32 or 16) holds words of 32 bits: four bytes, unsigned in a panel and
// signed in a tile, or two signed integers of 16 bits in both. A run takes kOutputs outputs, 8 to a
// register. Its part of a panel holds, per block, words of two registers each, then an f32 scale
// for each output, and with offsets an f32 offset for each. A tile of T tokens holds, per block,
// the words of each token (words outside, tokens inside), T facts and T f32 scales. A fact is what
// Op::kOrigin says: the int32 that a sum starts from, or the f32 sum of the block.
#pragma once

#include <cstring>
#include <type_traits>

#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/gemm_tiles_avx2.h"
#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/octet_unpack.h"
#include "runtime/core/error.h"

namespace thermocline::avx2 {

constexpr int64_t kPanelWordBytes = 64;  // two registers

// What the integers of a panel stand for.
enum class Origin : uint8_t {
  kSigned,   // themselves
  kCentred,  // Op::kCentre more than themselves, which a sum of products starts from
  kOffsets,  // f32 offsets are added, which the sums of x are multiplied by
};

// Multiplies by T tokens. Op: kBlock, kWordValues, kOrigin and kCentre, kMostByte (the largest
// integer of a panel), kLaneWords, kUnroll (words at a time). Where kLaneWords is 0 there is
// multiply_add(sum, w, x), in 32 bits; else so many words' products, multiplied in bytes, fit a
// lane of 16 bits together. The sums over blocks are in memory, those of a block in registers, 8
// for T = 4: the asm keeps the compiler from moving them about.
template <class Op>
struct IntegerTile {
  using V = Simd;
  using Output = TileOutput;
  static constexpr int kTileTokens = 4;
  static constexpr int kGroups = 2;
  static constexpr int64_t kOutputs = 8 * kGroups;
  static constexpr int64_t kStep = Op::kBlock;
  static constexpr int kBlockWords = Op::kBlock / Op::kWordValues;
  static constexpr bool kOffsets = Op::kOrigin == Origin::kOffsets;
  static constexpr int64_t kInputStepBytes = (kBlockWords + 2) * 4;
  static constexpr int64_t kPanelStepBytes =
      kBlockWords * kPanelWordBytes + kGroups * 32 * (1 + kOffsets);

  template <int kTokens>
  using Sums = __m256i[kTokens][kGroups];

  // The words of a block, summed in 32 bits.
  template <int kTokens>
  [[gnu::always_inline]] static inline void multiply_words(const std::byte* panel,
                                                           const int32_t* words,
                                                           Sums<kTokens>& dots) {
#pragma GCC unroll 1
    for (int i = 0; i < kBlockWords; i += Op::kUnroll) {
#pragma GCC unroll 8
      for (int j = i; j < i + Op::kUnroll; ++j) {
        const auto* at = reinterpret_cast<const __m256i*>(panel + j * kPanelWordBytes);
        const __m256i w[kGroups] = {_mm256_load_si256(at), _mm256_load_si256(at + 1)};
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const __m256i word = _mm256_set1_epi32(words[j * kTokens + t]);
#pragma GCC unroll 2
          for (int g = 0; g < kGroups; ++g) dots[t][g] = Op::multiply_add(dots[t][g], w[g], word);
          asm("" : "+x"(dots[t][0]), "+x"(dots[t][1]));
        }
      }
    }
  }

  // The same through lanes of 16 bits, kLaneWords words at a time.
  template <int kTokens>
  [[gnu::always_inline]] static inline void multiply_lanes(const std::byte* panel,
                                                           const int32_t* words,
                                                           Sums<kTokens>& dots) {
#pragma GCC unroll 1
    for (int first = 0; first < kBlockWords; first += Op::kLaneWords) {
      __m256i lanes[kTokens][kGroups] = {};
#pragma GCC unroll 1
      for (int i = first; i < first + Op::kLaneWords; i += Op::kUnroll) {
#pragma GCC unroll 8
        for (int j = i; j < i + Op::kUnroll; ++j) {
          const auto* at = reinterpret_cast<const __m256i*>(panel + j * kPanelWordBytes);
          const __m256i w[kGroups] = {_mm256_load_si256(at), _mm256_load_si256(at + 1)};
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) {
            const __m256i word = _mm256_set1_epi32(words[j * kTokens + t]);
#pragma GCC unroll 2
            for (int g = 0; g < kGroups; ++g) {
              lanes[t][g] = _mm256_add_epi16(lanes[t][g], _mm256_maddubs_epi16(w[g], word));
            }
            asm("" : "+x"(lanes[t][0]), "+x"(lanes[t][1]));
          }
        }
      }
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g) {
          const __m256i widened = _mm256_madd_epi16(lanes[t][g], _mm256_set1_epi16(1));
          dots[t][g] = _mm256_add_epi32(dots[t][g], widened);
        }
      }
    }
  }

  template <int kTokens>
  static void run(const std::byte* panel, const std::byte* x, int64_t n_blocks,
                  const TileOutput& out, LinePrefetcher& ahead) {
    alignas(32) float memory[kTokens * kGroups * 8];
    float* sums = memory;
    asm volatile("" : "+r"(sums)::"memory");  // or the compiler would take registers for them
#pragma GCC unroll 16
    for (int i = 0; i < kTokens * kGroups; ++i) {
      _mm256_store_ps(sums + i * 8, out.first(i / kGroups, i % kGroups));
    }
    LinePrefetcher lines = ahead;
    for (int64_t b = 0; b < n_blocks; ++b) {
      const auto* words = reinterpret_cast<const int32_t*>(x);
      const int32_t* facts = words + kBlockWords * kTokens;
      const auto* scales = reinterpret_cast<const float*>(facts + kTokens);
      lines.step();
      Sums<kTokens> dots = {};
      if constexpr (Op::kOrigin == Origin::kCentred) {
#pragma GCC unroll 16
        for (int i = 0; i < kTokens * kGroups; ++i) {
          dots[i / kGroups][i % kGroups] = _mm256_set1_epi32(facts[i / kGroups]);
        }
      }
      if constexpr (Op::kLaneWords == 0) {
        multiply_words<kTokens>(panel, words, dots);
      } else {
        multiply_lanes<kTokens>(panel, words, dots);
      }
      asm volatile("" : "+r"(sums)::"memory");  // or it would carry them from block to block
      const auto* factors = reinterpret_cast<const float*>(panel + kBlockWords * kPanelWordBytes);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g) {
          const __m256 scaled =
              _mm256_mul_ps(_mm256_cvtepi32_ps(dots[t][g]), _mm256_load_ps(factors + g * 8));
          float* at = sums + (t * kGroups + g) * 8;
          __m256 sum = _mm256_fmadd_ps(scaled, _mm256_broadcast_ss(scales + t), _mm256_load_ps(at));
          if constexpr (kOffsets) {
            const auto* x_sums = reinterpret_cast<const float*>(facts);
            sum = _mm256_fmadd_ps(_mm256_load_ps(factors + (kGroups + g) * 8),
                                  _mm256_broadcast_ss(x_sums + t), sum);
          }
          _mm256_store_ps(at, sum);
        }
      }
      panel += kPanelStepBytes;
      x += kInputStepBytes * kTokens;
    }
    ahead = lines;
#pragma GCC unroll 16
    for (int i = 0; i < kTokens * kGroups; ++i) {
      out.store(i / kGroups, i % kGroups, _mm256_load_ps(sums + i * 8));
    }
  }
};

// Loads 16 bytes of each of 8 rows at `offset`, transposed: register c holds word c of every row,
// in the order of the rows.
[[gnu::always_inline]] inline void transpose_words(const std::byte* first, int64_t stride,
                                                   int64_t offset, __m256i* words) {
  __m256i lanes[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const auto part = [&](int row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(first + row * stride + offset));
    };
    lanes[j] = _mm256_set_m128i(part(j + 4), part(j));
  }
  const __m256i low01 = _mm256_unpacklo_epi32(lanes[0], lanes[1]);
  const __m256i high01 = _mm256_unpackhi_epi32(lanes[0], lanes[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(lanes[2], lanes[3]);
  const __m256i high23 = _mm256_unpackhi_epi32(lanes[2], lanes[3]);
  words[0] = _mm256_unpacklo_epi64(low01, low23);
  words[1] = _mm256_unpackhi_epi64(low01, low23);
  words[2] = _mm256_unpacklo_epi64(high01, high23);
  words[3] = _mm256_unpackhi_epi64(high01, high23);
}

[[gnu::always_inline]] inline void store_word(std::byte* out, int word, __m256i w) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(out + word * kPanelWordBytes), w);
}
[[gnu::always_inline]] inline __m256i low_nibbles(__m256i bytes) {
  return _mm256_and_si256(bytes, _mm256_set1_epi8(15));
}
[[gnu::always_inline]] inline __m256i high_nibbles(__m256i bytes) {
  return low_nibbles(_mm256_srli_epi16(bytes, 4));
}
// Stores word c of four signed bytes of each row, as the two words of two 16-bit integers that it
// becomes.
[[gnu::always_inline]] inline void store_pairs(std::byte* out, int c, __m256i bytes) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const auto at = static_cast<int8_t>(2 * half);
    const auto next = static_cast<int8_t>(at + 1);
    // Each byte to the upper half of its integer, twice so that nothing is left out.
    const __m128i lane =
        _mm_setr_epi8(at, at, next, next, at + 4, at + 4, next + 4, next + 4, at + 8, at + 8,
                      next + 8, next + 8, at + 12, at + 12, next + 12, next + 12);
    const __m256i spread = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(lane));
    store_word(out, 2 * c + half, _mm256_srai_epi16(spread, 8));
  }
}

// How a block of 8 rows is packed. Q4_0 is a nibble times its scale minus 8 times that: an offset.
template <DType kType>
struct PackedBlock {
  static_assert(kHandlesType<kType>, "say how a panel in int8 is packed");
};

template <>
struct PackedBlock<DType::kQ8_0> {
  template <class Op>
  [[gnu::always_inline]] static inline void pack(const std::byte* rows, int64_t stride,
                                                 std::byte* out) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m256i words[4];
      transpose_words(rows, stride, 2 + half * 16, words);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        if constexpr (Op::kWordValues == 2) {
          store_pairs(out, half * 4 + c, words[c]);
        } else {
          static_assert(Op::kOrigin == Origin::kCentred && Op::kCentre == 128);
          store_word(out, half * 4 + c, _mm256_xor_si256(words[c], _mm256_set1_epi8(-128)));
        }
      }
    }
  }
};

template <int kOffset>
struct PackedNibbles {
  template <class Op>
  [[gnu::always_inline]] static inline void pack(const std::byte* rows, int64_t stride,
                                                 std::byte* out) {
    static_assert(Op::kOrigin == Origin::kOffsets);
    __m256i words[4];
    transpose_words(rows, stride, kOffset, words);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      store_word(out, c, low_nibbles(words[c]));
      store_word(out, 4 + c, high_nibbles(words[c]));
    }
  }
};
template <>
struct PackedBlock<DType::kQ4_0> : PackedNibbles<2> {
  [[gnu::always_inline]] static inline __m256 offsets(__m256 scales, const uint16_t* /*second*/) {
    return _mm256_mul_ps(scales, _mm256_set1_ps(-8));
  }
};
template <>
struct PackedBlock<DType::kQ4_1> : PackedNibbles<4> {
  [[gnu::always_inline]] static inline __m256 offsets(__m256 /*scales*/, const uint16_t* second) {
    return Simd::load_f16(second);
  }
};

// Packs one block of 8 rows as group `group` of a run's part.
template <class Op, DType kType>
[[gnu::always_inline]] inline void pack_block(const std::byte* rows, int64_t stride, int group,
                                              std::byte* out) {
  using Tile = IntegerTile<Op>;
  PackedBlock<kType>::template pack<Op>(rows, stride, out + group * 32);
  uint16_t pairs[2][8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) {
    std::memcpy(&pairs[0][r], rows + r * stride, 2);
    std::memcpy(&pairs[1][r], rows + r * stride + 2, 2);
  }
  auto* factors = reinterpret_cast<float*>(out + Tile::kBlockWords * kPanelWordBytes);
  const __m256 scales = Simd::load_f16(pairs[0]);
  _mm256_store_ps(factors + group * 8, scales);
  if constexpr (Tile::kOffsets) {
    _mm256_store_ps(factors + (Tile::kGroups + group) * 8,
                    PackedBlock<kType>::offsets(scales, pairs[1]));
  }
}

// Packs rows [0, n) of 8; the other rows become zeros.
template <class Op, DType kType>
void pack_group(const std::byte* w, int64_t stride, int64_t n, int64_t n_blocks, int group,
                LinePrefetcher& ahead, std::byte* out) {
  constexpr int64_t kBytes = kTypeBlockBytes<kType>;
  constexpr int kLines = static_cast<int>((8 * kBytes + 63) / 64);
  for (int64_t b = 0; b < n_blocks; ++b, out += IntegerTile<Op>::kPanelStepBytes) {
    for (int line = 0; line < kLines; ++line) ahead.step();
    const std::byte* from = w + b * kBytes;
    if (n == 8) {
      pack_block<Op, kType>(from, stride, group, out);
      continue;
    }
    std::byte rows[8 * kBytes] = {};
    for (int64_t r = 0; r < n; ++r) std::memcpy(rows + r * kBytes, from + r * stride, kBytes);
    pack_block<Op, kType>(rows, kBytes, group, out);
  }
}

// What octet_to_bytes adds to the integers of a type that has no offsets but for that.
template <DType kType>
constexpr int centre_of_bytes() {
  constexpr int kCentre = octet_centre(kType).centre;
  if constexpr (kCentre != 0) return kCentre;
  return OctetBytes<Simd, kType>::kAdds128 ? 128 : OctetBytes<Simd, kType>::kZero;
}

// The largest that octet_to_bytes writes.
template <DType kType>
constexpr int most_of_bytes() {
  using Bytes = OctetBytes<Simd, kType>;
  return Bytes::kAdds128 ? 255 : Octet<Simd, kType>::kMost + Bytes::kZero;
}

// Packs columns [begin, end) of rows [0, n) of 8 as group `group` of a run's part, octet by octet.
template <class Op, DType kType>
void pack_octets(const std::byte* w, int64_t stride, int64_t n, int64_t begin, int64_t end,
                 int group, LinePrefetcher& ahead, std::byte* out) {
  using Tile = IntegerTile<Op>;
  constexpr int kLines = static_cast<int>((8 * kOctetBytes<kType> + 63) / 64);
  constexpr int kEach = kQuantBlock / Op::kBlock;  // blocks of a chunk
  // From what octet_to_bytes writes to what the op takes.
  constexpr auto kMoved = static_cast<int8_t>(
      Op::kOrigin == Origin::kOffsets ? 0 : Op::kCentre - centre_of_bytes<kType>());
  static_assert(most_of_bytes<kType>() + kMoved <= Op::kMostByte);
  alignas(32) uint8_t bytes[8][kOctetCols] = {};
  OctetFactorArrays arrays[8] = {};
  while (begin < end) {
    const int64_t octet = begin / kOctetCols;
    const int64_t octet_end = (octet + 1) * kOctetCols < end ? (octet + 1) * kOctetCols : end;
    const int64_t first = begin % kOctetCols / kQuantBlock;
    const int64_t last = first + (octet_end - begin) / kQuantBlock;
    for (int line = 0; line < kLines; ++line) ahead.step();
    for (int64_t r = 0; r < n; ++r) {
      octet_to_bytes<Simd, kType>(w + r * stride + octet * kOctetBytes<kType>, first, last,
                                  bytes[r], &arrays[r]);
    }
    for (int64_t b = first * kEach; b < last * kEach; ++b, out += Tile::kPanelStepBytes) {
      for (int part = 0; part < Op::kBlock / 16; ++part) {
        __m256i words[4];
        transpose_words(reinterpret_cast<const std::byte*>(bytes), kOctetCols,
                        b * Op::kBlock + part * 16, words);
        for (int c = 0; c < 4; ++c) {
          const __m256i placed = _mm256_add_epi8(words[c], _mm256_set1_epi8(kMoved));
          if constexpr (Op::kWordValues == 2) {
            store_pairs(out + group * 32, part * 4 + c, placed);
          } else {
            store_word(out + group * 32, part * 4 + c, placed);
          }
        }
      }
      auto* factors = reinterpret_cast<float*>(out + Tile::kBlockWords * kPanelWordBytes);
      for (int r = 0; r < 8; ++r) {
        factors[group * 8 + r] = arrays[r].scales[b];
        if (Tile::kOffsets) factors[(Tile::kGroups + group) * 8 + r] = arrays[r].offsets[b];
      }
    }
    begin = octet_end;
  }
}

template <class Op, DType kType>
void pack_panels(const GemmPackArgs& args) {
  using Tile = IntegerTile<Op>;
  const int64_t n_blocks = (args.end - args.begin) / Op::kBlock;
  std::byte* out = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += Tile::kOutputs) {
    for (int group = 0; group < Tile::kGroups; ++group) {
      const int64_t left = args.n_rows - r - group * 8;
      const int64_t n = left < 0 ? 0 : left < 8 ? left : 8;
      const std::byte* rows = args.w;
      if (n > 0) rows += (r + group * 8) * args.row_stride_bytes;
      if constexpr (kIsOctets<kType>) {
        pack_octets<Op, kType>(rows, args.row_stride_bytes, n, args.begin, args.end, group, ahead,
                               out);
      } else {
        rows += args.begin / kQuantBlock * kTypeBlockBytes<kType>;
        pack_group<Op, kType>(rows, args.row_stride_bytes, n, n_blocks, group, ahead, out);
      }
    }
    out += n_blocks * Tile::kPanelStepBytes;
  }
}

template <class Op>
void prepare_tiles(const GemmPrepareArgs& args) {
  using Tile = IntegerTile<Op>;
  const Tiles tiles(args.n_tokens, Tile::kTileTokens);
  const int64_t n_blocks = args.k / Op::kBlock;
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    const int64_t step = size * Tile::kInputStepBytes;
    std::byte* out = args.out + begin * n_blocks * Tile::kInputStepBytes;
    for (int64_t b = 0; b < args.k / kQuantBlock; ++b) {
      for (int64_t t = 0; t < size; ++t) {
        alignas(32) int8_t q[kQuantBlock];
        float scale = 0.0F;
        const float* const x = args.x + (begin + t) * args.k + b * kQuantBlock;
        quantise_activations<Simd>(x, args.plane, q, &scale);
        const __m256i pairs = _mm256_maddubs_epi16(
            _mm256_set1_epi8(1), _mm256_load_si256(reinterpret_cast<const __m256i*>(q)));
        alignas(32) int32_t quads[8];
        _mm256_store_si256(reinterpret_cast<__m256i*>(quads),
                           _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        alignas(32) std::byte values[kQuantBlock * 4 / Op::kWordValues];
        if constexpr (Op::kWordValues == 2) {
          for (int half = 0; half < 2; ++half) {
            const __m256i wide = _mm256_cvtepi8_epi16(
                _mm_load_si128(reinterpret_cast<const __m128i*>(q + half * 16)));
            _mm256_store_si256(reinterpret_cast<__m256i*>(values) + half, wide);
          }
        } else {
          std::memcpy(values, q, sizeof(q));
        }
        auto* words = out + t * 4;
        for (int at = 0; at < kQuantBlock; at += Op::kBlock, words += step) {
          int32_t sum = 0;
          for (int i = 0; i < Op::kBlock / 4; ++i) sum += quads[at / 4 + i];
          for (int i = 0; i < Tile::kBlockWords; ++i) {
            std::memcpy(words + i * size * 4, values + (at / Op::kWordValues + i) * 4, 4);
          }
          const int32_t start = -Op::kCentre * sum;
          const float scaled_sum = scale * static_cast<float>(sum);
          const void* fact = Tile::kOffsets ? static_cast<const void*>(&scaled_sum) : &start;
          std::memcpy(words + Tile::kBlockWords * size * 4, fact, 4);
          std::memcpy(words + (Tile::kBlockWords + 1) * size * 4, &scale, 4);
        }
      }
      out += kQuantBlock / Op::kBlock * step;
    }
  }
}

template <class Op>
int64_t input_bytes_of(int64_t n_tokens, int64_t k) {
  return n_tokens * (k / Op::kBlock) * IntegerTile<Op>::kInputStepBytes;
}

template <class Op>
int64_t panel_bytes_of(int64_t k) {
  return k / Op::kBlock * IntegerTile<Op>::kPanelStepBytes *
         (kGemmPanel / IntegerTile<Op>::kOutputs);
}

// Packs rows of the types in integers, with the Op of each form.
template <class Ops>
void pack_rows_of(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (!kIsQuantised<type()>) {
      CheckFailed(__FILE__, __LINE__, "a type that is packed in int8");  // rows_form takes another
    } else {
      constexpr GemmForm kForm = Ops::form_of(type());
      using Op = std::conditional_t<
          kForm == GemmForm::kQ8, typename Ops::Whole,
          std::conditional_t<
              kForm == GemmForm::kQ8Offset, typename Ops::Offset,
              std::conditional_t<kForm == GemmForm::kQ8Wide, typename Ops::Wide,
                                 std::conditional_t<kForm == GemmForm::kQ8Halves,
                                                    typename Ops::Halves, typename Ops::Centred>>>>;
      pack_panels<Op, type()>(args);
    }
  });
}

}  // namespace thermocline::avx2
