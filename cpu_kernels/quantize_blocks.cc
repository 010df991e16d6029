// f32 to the blocks of 32 weights with even steps: Q8_0, Q5_1, Q5_0, Q4_1, Q4_0. Without importance
// they are rounded exactly as ggml's reference code does (quantize_row_q8_0_ref and the like), so
// that files match those of other tools byte for byte.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_kernels/quantize_block.h"
#include "cpu_kernels/quantize_fit.h"
#include "runtime/core/dtype.h"

namespace thermocline {
namespace {

template <int kBits>
constexpr float kHighest = static_cast<float>((1 << kBits) - 1);
template <int kBits>
constexpr float kMiddle = static_cast<float>(1 << (kBits - 1));

// Stores 32 integers of four or five bits: the fifth bits (weight i's is bit i), then nibbles.
template <int kBits>
void put_integers(const unsigned* q, std::byte* out) {
  if constexpr (kBits == 5) {
    uint32_t fifth = 0;
    for (int i = 0; i < kQuantBlock; ++i) fifth |= (q[i] >> 4U) << i;
    std::memcpy(out, &fifth, sizeof(fifth));
    out += sizeof(fifth);
  }
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    out[i] = static_cast<std::byte>((q[i] & 15U) | (q[i + 16] & 15U) << 4U);
  }
}

// The value of largest magnitude keeps its sign: it maps to the end of the range that has no
// partner.
template <int kBits>
void round_scaled_block(const float* x, std::byte* out) {
  const float d = largest_of(x, kQuantBlock) / -kMiddle<kBits>;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  unsigned q[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) {
    const float value = x[i] * inverse + (kMiddle<kBits> + 0.5F);
    q[i] = static_cast<unsigned>(std::clamp(value, 0.0F, kHighest<kBits>));
  }
  put_integers<kBits>(q, out + 2);
}

// The smallest value becomes integer 0 of offset m, the largest the highest one.
template <int kBits>
void round_affine_block(const float* x, std::byte* out) {
  const auto [smallest, largest] = std::minmax_element(x, x + kQuantBlock);
  const float m = *smallest;
  const float d = (*largest - m) / kHighest<kBits>;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  put_u16(out + 2, F32ToF16(m));
  unsigned q[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) {
    // Differences or reciprocals that leave f32 come with a d whose f16 is infinite or 0; fmin and
    // fmax take the number beside a NaN of theirs.
    const float value = (x[i] - m) * inverse + 0.5F;
    q[i] = static_cast<unsigned>(std::fmax(0.0F, std::fmin(kHighest<kBits>, value)));
  }
  put_integers<kBits>(q, out + 4);
}

template <int kBits>
void fit_scaled_block(const float* x, const float* importance, std::byte* out) {
  const float d =
      put_half(out, fit_scale<kQuantBlock>(x, importance, -kMiddle<kBits>, kMiddle<kBits> / 8));
  const float inverse = inverse_of(d);
  unsigned q[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) {
    const float value = x[i] * inverse + kMiddle<kBits>;
    q[i] = static_cast<unsigned>(integer_within(value, 0.0F, kHighest<kBits>));
  }
  put_integers<kBits>(q, out + 2);
}

template <int kBits>
void fit_affine_block(const float* x, const float* importance, std::byte* out) {
  const AffineFit fit =
      fit_affine<kQuantBlock, Offsets::kAny>(x, importance, kHighest<kBits>, 2.0F);
  const float inverse = inverse_of(put_half(out, fit.scale));
  const float m = put_half(out + 2, -fit.offset);
  unsigned q[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) {
    q[i] = static_cast<unsigned>(integer_within((x[i] - m) * inverse, 0.0F, kHighest<kBits>));
  }
  put_integers<kBits>(q, out + 4);
}

}  // namespace

void round_q8_0_block(const float* x, std::byte* out) {
  const float d = std::fabs(largest_of(x, kQuantBlock)) / 127.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  for (int i = 0; i < kQuantBlock; ++i) {
    // Only a subnormal d can leave [-127, 127]: its f16 is 0, so the clamp changes no value.
    const float q = std::clamp(std::round(x[i] * inverse), -127.0F, 127.0F);
    out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(q));
  }
}

void round_q5_1_block(const float* x, std::byte* out) { round_affine_block<5>(x, out); }
void round_q5_0_block(const float* x, std::byte* out) { round_scaled_block<5>(x, out); }
void round_q4_1_block(const float* x, std::byte* out) { round_affine_block<4>(x, out); }
void round_q4_0_block(const float* x, std::byte* out) { round_scaled_block<4>(x, out); }

void fit_q5_1_block(const float* x, const float* importance, std::byte* out) {
  fit_affine_block<5>(x, importance, out);
}
void fit_q5_0_block(const float* x, const float* importance, std::byte* out) {
  fit_scaled_block<5>(x, importance, out);
}
void fit_q4_1_block(const float* x, const float* importance, std::byte* out) {
  fit_affine_block<4>(x, importance, out);
}
void fit_q4_0_block(const float* x, const float* importance, std::byte* out) {
  fit_scaled_block<4>(x, importance, out);
}

}  // namespace thermocline
