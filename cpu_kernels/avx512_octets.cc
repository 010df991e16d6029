// Multiplies rows that are read as octets (octet.h) by activations in int8 through VNNI. A register
// takes two chunks, 64 columns, whose bytes are unsigned; signed ones are made so by 128, which the
// starts in the prepared vector pay back.
#include <cstring>

#include "cpu_kernels/avx512.h"
#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/octet.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/vnni_vector.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

[[gnu::always_inline]] inline __m512i broadcast_32_bytes(const std::byte* p) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// The low nibbles of 16 bytes, their high ones, and the same of 16 others.
[[gnu::always_inline]] inline __m512i nibbles_of(__m512i twice_each) {
  const __m512i shifts = _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0,
                                           0x0004000400040004, 0x0004000400040004);
  return _mm512_and_si512(_mm512_srlv_epi16(twice_each, shifts), _mm512_set1_epi8(15));
}
[[gnu::always_inline]] inline __m512i nibbles_of(const std::byte* first, const std::byte* second) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
  return nibbles_of(_mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(a), 0xff00, b));
}

// 16 values, each plus `more`.
[[gnu::always_inline]] inline __m512i look_up(const int8_t* values, int more, __m512i nibbles) {
  const __m128i sixteen = _mm_add_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)),
                                       _mm_set1_epi8(static_cast<char>(more)));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), nibbles);
}

// The 64 nibbles of two chunks that share 32 bytes.
[[gnu::always_inline]] inline __m512i shared_nibbles(const std::byte* p) {
  const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
  return _mm512_and_si512(_mm512_srlv_epi16(broadcast_32_bytes(p), shifts), _mm512_set1_epi8(15));
}

template <int64_t kBlockBytes>
[[gnu::always_inline]] inline __mmask64 fifth_bits(const std::byte* p) {
  uint32_t first;
  uint32_t second;
  std::memcpy(&first, p, sizeof(first));
  std::memcpy(&second, p + kBlockBytes, sizeof(second));
  return first | static_cast<uint64_t>(second) << 32;
}
[[gnu::always_inline]] inline __m512i with_fifth(__m512i nibbles, __mmask64 bits) {
  return _mm512_mask_add_epi8(nibbles, bits, nibbles, _mm512_set1_epi8(16));
}

// The bytes of chunks 2 kPair and 2 kPair + 1 of an octet, unsigned.
template <DType kType, int kPair>
[[gnu::always_inline]] inline __m512i pair_bytes(const Octet<Simd, kType>& octet) {
  constexpr int64_t kBlockBytes = kTypeBlockBytes<kType>;
  if constexpr (kType == DType::kQ4_K) {
    return shared_nibbles(octet.p + 16 + kPair * kQuantBlock);
  } else if constexpr (kType == DType::kQ5_K) {
    // Rotating words brings bit 2 kPair of each byte to bit 4, and one bit less bit 2 kPair + 1.
    const __m512i turn = _mm512_inserti64x4(_mm512_set1_epi32((4 - 2 * kPair) & 31),
                                            _mm256_set1_epi32((3 - 2 * kPair) & 31), 1);
    const __m512i high = _mm512_rolv_epi32(broadcast_32_bytes(octet.p + 16), turn);
    constexpr int kAOrBAndC = 0xf8;
    return _mm512_ternarylogic_epi32(shared_nibbles(octet.p + 48 + kPair * kQuantBlock), high,
                                     _mm512_set1_epi8(16), kAOrBAndC);
  } else if constexpr (kType == DType::kIQ4_XS) {
    const std::byte* at = octet.p + 8 + kPair * kQuantBlock;
    return look_up(kUnevenNibbles, 128, nibbles_of(at, at + 16));
  } else if constexpr (kType == DType::kIQ4_NL) {
    const std::byte* at = octet.p + 2 * kPair * kBlockBytes + 2;
    return look_up(kUnevenNibbles, 128, nibbles_of(at, at + kBlockBytes));
  } else if constexpr (kType == DType::kMXFP4) {
    const std::byte* at = octet.p + 2 * kPair * kBlockBytes + 1;
    return look_up(kFloatNibbles, 16, nibbles_of(at, at + kBlockBytes));
  } else if constexpr (kType == DType::kQ5_0 || kType == DType::kQ5_1) {
    const std::byte* at = octet.p + 2 * kPair * kBlockBytes + (kType == DType::kQ5_0 ? 2 : 4);
    return with_fifth(nibbles_of(at + 4, at + 4 + kBlockBytes), fifth_bits<kBlockBytes>(at));
  } else {
    const __m256i first = octet.template bytes<2 * kPair>();
    const __m256i second = octet.template bytes<2 * kPair + 1>();
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    if constexpr (Octet<Simd, kType>::kSigned) {
      return _mm512_xor_si512(both, _mm512_set1_epi8(-128));
    } else {
      return both;
    }
  }
}

template <DType kType>
class OctetDot {
 public:
  using Reg = __m512;
  using TypeOctet = Octet<Simd, kType>;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = kOctetBytes<kType>;
  static constexpr int64_t kVectorStepBytes = TypeOctet::kSigned ? 544 : 384;
  static constexpr int64_t kMostTokens = kIsByChunks<kType> ? 4 : 8;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit OctetDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        n_cols_(args.n_cols) {}

  int64_t full_steps() const { return n_cols_ / kOctetCols; }

  template <int kRows, int kTokens = 1>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      add<kTokens>(rows[r] + t * kStepBytes, t, sums + r * kTokens);
    }
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    if (n_cols_ % kOctetCols == 0) return;
    for (int r = 0; r < kRows; ++r) {
      add<kTokens>(LastOctet<Simd, kType>(rows[r], n_cols_).bytes, full_steps(),
                   sums + r * kTokens);
    }
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  template <int kTokens>
  [[gnu::always_inline]] inline void add(const std::byte* p, int64_t t, Reg (*sums)[2]) const {
    const TypeOctet octet{p};
    const auto factors = octet.factors();
    Reg scales[kTokens];
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const std::byte* const vector = x_ + token * x_stride_;
      const __m256 x_scales = _mm256_loadu_ps(layout_.scales_of(vector) + t * kOctetChunks);
      Reg& sum = sums[token][1];
      if constexpr (TypeOctet::kHalves) {
        const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        const Reg x_twice = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(x_scales));
        scales[token] = _mm512_mul_ps(both(factors.scales), x_twice);
        if constexpr (!TypeOctet::kSigned) {
          const Reg x_sums = _mm512_loadu_ps(layout_.half_sums_of(vector) + t * 2 * kOctetChunks);
          sum = _mm512_fmadd_ps(both(factors.offsets), x_sums, sum);
        }
      } else {
        scales[token] = _mm512_castps256_ps512(_mm256_mul_ps(factors.scales[0], x_scales));
        if constexpr (!TypeOctet::kSigned) {
          const __m256 x_sums = _mm256_loadu_ps(layout_.sums_of(vector) + t * kOctetChunks);
          sum = _mm512_fmadd_ps(_mm512_zextps256_ps512(factors.offsets[0]),
                                _mm512_zextps256_ps512(x_sums), sum);
        }
      }
    }
    add_pair<kTokens, 0>(octet, scales, t, sums);
    add_pair<kTokens, 1>(octet, scales, t, sums);
    add_pair<kTokens, 2>(octet, scales, t, sums);
    add_pair<kTokens, 3>(octet, scales, t, sums);
  }

  [[gnu::always_inline]] static inline Reg both(const __m256* halves) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(halves[0]), halves[1], 1);
  }

  template <int kTokens, int kPair>
  [[gnu::always_inline]] inline void add_pair(const TypeOctet& octet, const Reg* scales, int64_t t,
                                              Reg (*sums)[2]) const {
    const int64_t pair = 4 * t + kPair;
    const __m512i weights = pair_bytes<kType, kPair>(octet);
    const __m512i scale_at =
        TypeOctet::kHalves ? each_4_times_at(4 * kPair) : each_8_times_at(2 * kPair);
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const std::byte* const vector = x_ + token * x_stride_;
      __m512i start = _mm512_setzero_si512();
      if constexpr (TypeOctet::kSigned) {
        start = _mm512_load_si512(vector + layout_.pair_starts() + pair * 64);
      }
      const __m512i dots =
          _mm512_dpbusd_epi32(start, weights, _mm512_load_si512(vector + pair * 64));
      Reg& sum = sums[token][kPair % 2];
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots),
                            _mm512_permutexvar_ps(scale_at, scales[token]), sum);
    }
  }

  const std::byte* x_;
  int64_t x_stride_;
  VnniVector layout_;
  int64_t n_cols_;
};

}  // namespace

void vnni_matvec_octets(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (kIsOctets<type()> && type() != DType::kQ6_K) {
      matvec_many<OctetDot<type()>>(args);
    } else {
      CheckFailed(__FILE__, __LINE__, "a type that is read as octets");
    }
  });
}

}  // namespace thermocline::avx512
