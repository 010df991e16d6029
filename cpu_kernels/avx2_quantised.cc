// Products of quantised rows with activations in int8, by multiplying unsigned with signed bytes.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/block_dot_avx2.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/octet_dot_avx2.h"
#include "runtime/core/error.h"

namespace thermocline::avx2 {
int64_t q8_bytes(int64_t n) { return Q8Vector(n).total(); }

void prepare_q8(const float* x, int64_t n, Plane plane, void* out) {
  const Q8Vector layout(n);
  auto* q = static_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(q + layout.scales());
  auto* sums = reinterpret_cast<float*>(q + layout.sums());
  auto* half_sums = reinterpret_cast<float*>(q + layout.half_sums());
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    quantise_activations<Simd>(x + b * kQuantBlock, plane, q + b * kQuantBlock, scales + b);
    const auto* bytes = reinterpret_cast<const __m256i*>(q + b * kQuantBlock);
    const __m256i fours = Maddubs::fours(_mm256_set1_epi8(1), _mm256_loadu_si256(bytes));
    const auto store_fours = [&](int64_t at, __m256i values) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + at + b * kQuantBlock), values);
    };
    const __m256i minus_fours = _mm256_sub_epi32(_mm256_setzero_si256(), fours);
    store_fours(layout.minus_eights(), _mm256_slli_epi32(minus_fours, 3));
    store_fours(layout.starts(), _mm256_slli_epi32(minus_fours, 7));
    const __m256i pairs = _mm256_hadd_epi32(fours, fours);
    const __m256i halves = _mm256_hadd_epi32(pairs, pairs);
    const int first = _mm256_extract_epi32(halves, 0);
    const int second = _mm256_extract_epi32(halves, 4);
    half_sums[2 * b] = scales[b] * static_cast<float>(first);
    half_sums[2 * b + 1] = scales[b] * static_cast<float>(second);
    sums[b] = scales[b] * static_cast<float>(first + second);
  }
  for (int64_t b = n / kQuantBlock; b < layout.n_blocks(); ++b) {
    for (const int64_t at : {int64_t{0}, layout.minus_eights(), layout.starts()}) {
      std::memset(q + at + b * kQuantBlock, 0, kQuantBlock);
    }
    scales[b] = sums[b] = half_sums[2 * b] = half_sums[2 * b + 1] = 0.0F;
  }
}

void matvec_quantised(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (!kIsQuantised<type()> || takes_super_vector(type())) {
      CheckFailed(__FILE__, __LINE__, "a type that takes VectorForm::kQ8");
    } else if constexpr (kIsOctets<type()>) {
      matvec_many<OctetDot<type(), Maddubs>>(args);
    } else {
      matvec_many<BlockDot<type(), Maddubs>>(args);
    }
  });
}

}  // namespace thermocline::avx2
