// f32 to the types whose bits stand for levels other than 0, 1, 2, ...: IQ4_NL, IQ4_XS, MXFP4,
// whose steps are uneven, and S2_0, S3_0, which have odd levels.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "cpu_kernels/quantize_block.h"
#include "cpu_kernels/quantize_fit.h"
#include "runtime/core/dtype.h"
#include "runtime/core/quant_values.h"

namespace thermocline {
namespace {

// The nibble whose level is nearest, by floor(2 * value) + 256 for values in [-128, 128): a level's
// reach ends in the middle between two levels, which is a whole number or one and a half.
constexpr auto kNearestUneven = [] {
  std::array<uint8_t, 512> nearest = {};
  for (int i = 0; i < 512; ++i) {
    const int quarters = 2 * (i - 256) + 1;  // four times the middle of the half step
    const auto distance = [quarters](int nibble) {
      const int difference = 4 * kUnevenNibbles[nibble] - quarters;
      return difference < 0 ? -difference : difference;
    };
    for (uint8_t nibble = 1; nibble < 16; ++nibble) {
      if (distance(nibble) < distance(nearest[static_cast<size_t>(i)])) {
        nearest[static_cast<size_t>(i)] = nibble;
      }
    }
  }
  return nearest;
}();

unsigned uneven_nibble_of(float value) {
  return kNearestUneven[static_cast<size_t>(2.0F * (within(value, -128.0F, 127.75F) + 128.0F))];
}

// Returns a scale for 32 weights. The largest becomes -127 or 113, the ends of the range, or comes
// near one of them.
float fit_uneven_scale(const float* x, const float* importance) {
  ScaleSearch<kQuantBlock> search(x, importance);
  for (const float end : {-127.0F, 113.0F}) {
    for (int step = -2; step <= 4; ++step) {
      search.try_inverse(end * (1.0F - 0.03F * static_cast<float>(step)), [](float value) {
        return static_cast<float>(kUnevenNibbles[uneven_nibble_of(value)]);
      });
    }
  }
  return search.scale();
}

void put_uneven_nibbles(const float* x, float scale, std::byte* out) {
  const float inverse = inverse_of(scale);
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    out[i] = static_cast<std::byte>(uneven_nibble_of(x[i] * inverse) |
                                    uneven_nibble_of(x[i + 16] * inverse) << 4U);
  }
}

// Returns the nibble of the nearest float of four bits, doubled: the smaller of two.
unsigned float_nibble_of(float value) {
  const float magnitude = std::fabs(value);
  unsigned nibble = 0;
  for (unsigned i = 0; i < 7; ++i) {
    const auto middle = 0.5F * static_cast<float>(kFloatNibbles[i] + kFloatNibbles[i + 1]);
    nibble += magnitude > middle ? 1U : 0U;
  }
  return nibble != 0 && value < 0.0F ? nibble | 8U : nibble;
}

// Returns the number of the odd level nearest to a value, of -highest, ..., -1, 1, ..., highest:
// 0, 1, ..., highest.
unsigned odd_number_of(float value, float highest) {
  return static_cast<unsigned>(integer_within(0.5F * (value + highest), 0.0F, highest));
}

// Returns a scale for 32 weights. The largest becomes the highest level, or comes near it: with few
// levels the best scale may leave it far above.
float fit_odd_scale(const float* x, const float* importance, float highest) {
  ScaleSearch<kQuantBlock> search(x, importance);
  for (int step = -4; step <= 8; ++step) {
    const float inverse = highest * (1.0F + 0.08F * static_cast<float>(step));
    search.try_inverse(inverse, [highest](float value) {
      return 2.0F * static_cast<float>(odd_number_of(value, highest)) - highest;
    });
  }
  return search.scale();
}

// Stores the scale and the pairs; returns the third bits.
uint32_t put_odd_levels(const float* x, float scale, float highest, std::byte* out) {
  const float inverse = inverse_of(put_half(out, scale));
  uint32_t third = 0;
  std::memset(out + 2, 0, 8);
  for (int i = 0; i < kQuantBlock; ++i) {
    const unsigned number = odd_number_of(x[i] * inverse, highest);
    out[2 + i % 8] |= static_cast<std::byte>((number & 3U) << (i / 8 * 2));
    third |= static_cast<uint32_t>(number >> 2U) << i;
  }
  return third;
}

}  // namespace

void fit_s3_0_block(const float* x, const float* importance, std::byte* out) {
  const uint32_t third = put_odd_levels(x, fit_odd_scale(x, importance, 7.0F), 7.0F, out);
  std::memcpy(out + 10, &third, sizeof(third));
}

void fit_s2_0_block(const float* x, const float* importance, std::byte* out) {
  put_odd_levels(x, fit_odd_scale(x, importance, 3.0F), 3.0F, out);
}

void fit_iq4_nl_block(const float* x, const float* importance, std::byte* out) {
  put_uneven_nibbles(x, put_half(out, fit_uneven_scale(x, importance)), out + 2);
}

// The scale of largest magnitude becomes -32 times d, and the others the nearest multiple of d.
void fit_iq4_xs_block(const float* x, const float* importance, std::byte* out) {
  constexpr int kGroups = kSuperBlock / kQuantBlock;
  float scales[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    scales[g] = fit_uneven_scale(x + g * kQuantBlock, importance + g * kQuantBlock);
  }
  std::memset(out, 0, 8);
  const float d = put_half(out, largest_of(scales, kGroups) / -32.0F);
  const float inverse = inverse_of(d);
  unsigned high = 0;
  for (int g = 0; g < kGroups; ++g) {
    const float scale = integer_within(scales[g] * inverse, -32.0F, 31.0F);
    const auto stored = static_cast<unsigned>(scale + 32.0F);
    out[4 + g / 2] |= static_cast<std::byte>((stored & 15U) << (g % 2 * 4));
    high |= (stored >> 4U) << (2 * g);
    put_uneven_nibbles(x + g * kQuantBlock, d * scale, out + 8 + g * kQuantBlock / 2);
  }
  put_u16(out + 2, static_cast<uint16_t>(high));
}

// Two powers of two are tried: the largest weight lies between 8 and 16 units (and 12 is the
// largest number), or between 4 and 8.
void fit_mxfp4_block(const float* x, const float* importance, std::byte* out) {
  const float largest = std::fabs(largest_of(x, kQuantBlock));
  int exponent = 0;
  std::frexp(largest, &exponent);
  double best_error = INFINITY;
  for (const int above : {0, 1}) {
    const int stored = std::clamp(exponent + 124 + above, 0, 254);
    const double inverse = std::ldexp(1.0, 128 - stored);
    unsigned nibbles[kQuantBlock];
    double error = 0;
    for (int i = 0; i < kQuantBlock; ++i) {
      const auto value = static_cast<float>(x[i] * inverse);
      nibbles[i] = float_nibble_of(value);
      const double difference = kFloatNibbles[nibbles[i]] - value;
      error += importance[i] * difference * difference;
    }
    error = std::ldexp(error, 2 * above);  // a unit is twice as large
    if (error >= best_error) continue;
    best_error = error;
    out[0] = static_cast<std::byte>(stored);
    for (int i = 0; i < kQuantBlock / 2; ++i) {
      out[1 + i] = static_cast<std::byte>(nibbles[i] | nibbles[i + 16] << 4U);
    }
  }
}

}  // namespace thermocline
