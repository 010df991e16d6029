// Products of rows of super-blocks with one vector (super_dot_avx2.h), and the vector's form.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/super_dot_avx2.h"
#include "runtime/core/error.h"

namespace thermocline::avx2 {
namespace {

// The largest magnitude of 32 values; *finite becomes false where one is NaN or infinite.
float largest_of_chunk(const float* x, bool* finite) {
  __m256 largest = Simd::zero();
  for (int v = 0; v < kQuantBlock; v += Simd::kLanes) {
    const __m256 magnitude = Simd::abs(Simd::load(x + v));
    *finite = Simd::all_less(magnitude, Simd::set1(__builtin_inff())) && *finite;
    largest = Simd::max(largest, magnitude);
  }
  return Simd::largest(largest);
}

void quantise_chunk(const float* x, float step, int8_t* q) {
  const __m256 inverse = Simd::set1(1.0F / step);
  for (int v = 0; v < kQuantBlock; v += Simd::kLanes) {
    Simd::store_i8(q + v, Simd::mul(Simd::load(x + v), inverse));
  }
}

void add_sums(const int8_t* q, int chunk, SuperFacts* facts) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  const __m256i eights = _mm256_hadd_epi32(fours, fours);
  const __m256i halves = _mm256_hadd_epi32(eights, eights);
  const int first = _mm256_extract_epi32(halves, 0);
  const int second = _mm256_extract_epi32(halves, 4);
  facts->half_sums[chunk] = static_cast<int16_t>(first);
  facts->half_sums[kOctetChunks + chunk] = static_cast<int16_t>(second);
  facts->sums[chunk] = static_cast<int16_t>(first + second);
}

// Quantises 256 values: the largest chunk has the factor 127, the others the smallest that keeps
// their int8 within 127. With NaN or infinity the scale is NaN.
void prepare_block(const float* x, int8_t* q, SuperFacts* facts) {
  float steps[kOctetChunks];
  float largest = 0.0F;
  bool finite = true;
  for (int c = 0; c < kOctetChunks; ++c) {
    const float top = largest_of_chunk(x + c * kQuantBlock, &finite);
    largest = top > largest ? top : largest;
    steps[c] = top / 127.0F;
  }
  if (!finite || largest < kSmallestQ8Block) {
    facts->scale = finite ? 0.0F : __builtin_nanf("");
    return;
  }
  facts->scale = largest / 127.0F / static_cast<float>(kMostChunkFactor);
  for (int c = 0; c < kOctetChunks; ++c) {
    const float wanted = __builtin_ceilf(steps[c] / facts->scale);
    const float factor = wanted < 1.0F               ? 1.0F
                         : wanted > kMostChunkFactor ? kMostChunkFactor
                                                     : wanted;
    facts->factors[c] = static_cast<int16_t>(factor);
    quantise_chunk(x + c * kQuantBlock, facts->scale * factor, q + c * kQuantBlock);
    add_sums(q + c * kQuantBlock, c, facts);
  }
}

// Writes what is left of 256 values when what stands for them is taken away.
void rest_of_block(const float* x, const int8_t* q, const SuperFacts& facts, float* rest) {
  for (int c = 0; c < kOctetChunks; ++c) {
    const __m256 step = Simd::set1(facts.scale * static_cast<float>(facts.factors[c]));
    for (int i = c * kQuantBlock; i < (c + 1) * kQuantBlock; i += Simd::kLanes) {
      Simd::store(rest + i, Simd::fnma(step, Simd::load_i8(q + i), Simd::load(x + i)));
    }
  }
}

}  // namespace

int64_t super_bytes(int64_t n) { return SuperVector(n).total(); }

void prepare_super(const float* x, int64_t n, Plane plane, void* out) {
  const SuperVector layout(n);
  auto* q = static_cast<int8_t*>(out);
  std::memset(q, 0, static_cast<size_t>(layout.total()));
  auto* facts = reinterpret_cast<SuperFacts*>(q + layout.facts());
  for (int64_t b = 0; b < layout.n_blocks; ++b) {
    const float* block = x + b * kOctetCols;
    float padded[kOctetCols] = {};
    const int64_t left = n - b * kOctetCols;
    if (left < kOctetCols) {
      std::memcpy(padded, block, static_cast<size_t>(left) * sizeof(float));
      block = padded;
    }
    prepare_block(block, q + b * kOctetCols, facts + b);
    if (plane == Plane::kRounded) continue;
    float rest[kOctetCols];
    rest_of_block(block, q + b * kOctetCols, facts[b], rest);
    std::memset(q + b * kOctetCols, 0, kOctetCols);
    facts[b] = {};
    prepare_block(rest, q + b * kOctetCols, facts + b);
  }
}

void matvec_super(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (takes_super_vector(type())) {
      matvec_many<SuperDot<type()>>(args);
    } else {
      CheckFailed(__FILE__, __LINE__, "a type of super-blocks");
    }
  });
}

}  // namespace thermocline::avx2
