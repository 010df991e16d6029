// f32 to the blocks of 256 weights with even steps: Q6_K, Q5_K, Q4_K, Q3_K, Q2_K. Each group of 16
// or 32 weights chooses a scale (and an offset) by itself. These become multiples of the block's d
// (and dmin), and then the integers are rounded for the scales as they are stored. Where the parts
// of a block lie is said in runtime/core/weight_chunk.cc.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_kernels/quantize_block.h"
#include "cpu_kernels/quantize_fit.h"
#include "runtime/core/dtype.h"
#include "runtime/core/q6_k_block.h"

namespace thermocline {
namespace {

constexpr int kChunks = kSuperBlock / kQuantBlock;

void put_bits(std::byte* at, unsigned value, int shift) {
  *at |= static_cast<std::byte>(value << static_cast<unsigned>(shift));
}

// A block of groups with scales alone. Its integers are from 0 on, -lowest standing for 0.
struct ScaledBlock {
  static constexpr int kGroup = 16;
  static constexpr int kGroups = kSuperBlock / kGroup;
  int scales[kGroups];
  unsigned q[kSuperBlock];
};

// lowest: the lowest integer of a weight; lowest_scale: that of a scale. The scale of largest
// magnitude becomes lowest_scale times d. Stores d.
ScaledBlock fit_scaled(const float* x, const float* importance, float lowest, float reach,
                       float lowest_scale, std::byte* d_at) {
  constexpr int kGroup = ScaledBlock::kGroup;
  float scales[ScaledBlock::kGroups];
  for (int g = 0; g < ScaledBlock::kGroups; ++g) {
    scales[g] = fit_scale<kGroup>(x + g * kGroup, importance + g * kGroup, lowest, reach);
  }
  const float d = put_half(d_at, largest_of(scales, ScaledBlock::kGroups) / lowest_scale);
  const float inverse_d = inverse_of(d);
  ScaledBlock block;
  for (int g = 0; g < ScaledBlock::kGroups; ++g) {
    const float scale = integer_within(scales[g] * inverse_d, lowest_scale, -lowest_scale - 1.0F);
    block.scales[g] = static_cast<int>(scale);
    const float inverse = inverse_of(d * scale);
    for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
      block.q[i] =
          static_cast<unsigned>(integer_within(x[i] * inverse, lowest, -lowest - 1.0F) - lowest);
    }
  }
  return block;
}

// A block of groups of kGroup weights with scales and offsets.
template <int kGroup>
struct AffineBlock {
  static constexpr int kGroups = kSuperBlock / kGroup;
  unsigned scales[kGroups];
  unsigned offsets[kGroups];
  unsigned q[kSuperBlock];
};

// Returns the squared error of a group, each weight's times its importance, and stores its
// integers.
template <int kGroup>
float round_group(const float* x, const float* importance, const AffineFit& fit, float highest,
                  float* q) {
  const float inverse = inverse_of(fit.scale);
  LaneSum error;
  for_lanes<kGroup>([&](int i, int lane) {
    const float value = x[i] + fit.offset;
    q[i] = integer_within(value * inverse, 0.0F, highest);
    const float difference = fit.scale * q[i] - value;
    error.add(lane, importance[i] * difference * difference);
  });
  return error.total();
}

// highest: the highest integer of a weight; highest_factor: that of a scale and of an offset. The
// largest scale becomes highest_factor times d, and the largest offset as many times dmin. For each
// group the nearest multiples and their neighbours are tried. Stores d and dmin.
template <int kGroup>
AffineBlock<kGroup> fit_affine_groups(const float* x, const float* importance, float highest,
                                      float reach, float highest_factor, std::byte* d_at) {
  constexpr int kGroups = AffineBlock<kGroup>::kGroups;
  AffineFit fits[kGroups];
  AffineFit largest;
  for (int g = 0; g < kGroups; ++g) {
    fits[g] = fit_affine<kGroup, Offsets::kNotNegative>(x + g * kGroup, importance + g * kGroup,
                                                        highest, reach);
    largest.scale = std::max(largest.scale, fits[g].scale);
    largest.offset = std::max(largest.offset, fits[g].offset);
  }
  const float d = put_half(d_at, largest.scale / highest_factor);
  const float d_min = put_half(d_at + 2, largest.offset / highest_factor);
  AffineBlock<kGroup> block;
  for (int g = 0; g < kGroups; ++g) {
    const float scale = integer_within(fits[g].scale * inverse_of(d), 0.0F, highest_factor);
    const float offset = integer_within(fits[g].offset * inverse_of(d_min), 0.0F, highest_factor);
    float best_error = INFINITY;
    for (int neighbour = 0; neighbour < 9; ++neighbour) {
      constexpr float kBeside[] = {0.0F, -1.0F, 1.0F};
      const float near_scale = within(scale + kBeside[neighbour % 3], 0.0F, highest_factor);
      const float near_offset = within(offset + kBeside[neighbour / 3], 0.0F, highest_factor);
      float q[kGroup];
      const float error =
          round_group<kGroup>(x + g * kGroup, importance + g * kGroup,
                              {.scale = d * near_scale, .offset = d_min * near_offset}, highest, q);
      // Of numbers that leave f32 the first is as good as any.
      if (!(error < best_error) && neighbour > 0) continue;
      best_error = error;
      block.scales[g] = static_cast<unsigned>(near_scale);
      block.offsets[g] = static_cast<unsigned>(near_offset);
      for (int i = 0; i < kGroup; ++i) block.q[g * kGroup + i] = static_cast<unsigned>(q[i]);
    }
  }
  return block;
}

// Stores the two low bits of each integer: four chunks to 32 bytes.
void put_pairs(const unsigned* q, std::byte* out) {
  for (int c = 0; c < kChunks; ++c) {
    for (int i = 0; i < kQuantBlock; ++i) {
      put_bits(out + c / 4 * kQuantBlock + i, q[c * kQuantBlock + i] & 3U, c % 4 * 2);
    }
  }
}

// Stores one bit of each integer: eight chunks to 32 bytes.
void put_plane(const unsigned* q, unsigned bit, std::byte* out) {
  for (int c = 0; c < kChunks; ++c) {
    for (int i = 0; i < kQuantBlock; ++i) {
      put_bits(out + i, q[c * kQuantBlock + i] >> bit & 1U, c);
    }
  }
}

// Stores the four low bits of each integer: two chunks to 32 bytes.
void put_nibbles(const unsigned* q, std::byte* out) {
  for (int c = 0; c < kChunks; ++c) {
    for (int i = 0; i < kQuantBlock; ++i) {
      put_bits(out + c / 2 * kQuantBlock + i, q[c * kQuantBlock + i] & 15U, c % 2 * 4);
    }
  }
}

// Stores eight scales and eight offsets of six bits in 12 bytes.
void put_factors(const AffineBlock<kQuantBlock>& block, std::byte* out) {
  for (int c = 0; c < 4; ++c) {
    put_bits(out + c, block.scales[c], 0);
    put_bits(out + c + 4, block.offsets[c], 0);
    put_bits(out + c, block.scales[c + 4] >> 4U, 6);
    put_bits(out + c + 4, block.offsets[c + 4] >> 4U, 6);
    put_bits(out + c + 8, block.scales[c + 4] & 15U, 0);
    put_bits(out + c + 8, block.offsets[c + 4] & 15U, 4);
  }
}

}  // namespace

void fit_q6_k_block(const float* x, const float* importance, std::byte* out) {
  std::memset(out, 0, q6_k::kBytes);
  const ScaledBlock block = fit_scaled(x, importance, -32.0F, 2.0F, -128.0F, out + q6_k::kDAt);
  for (int g = 0; g < ScaledBlock::kGroups; ++g) {
    out[q6_k::kScalesAt + g] = static_cast<std::byte>(static_cast<int8_t>(block.scales[g]));
  }
  for (int i = 0; i < kSuperBlock; ++i) {
    const int c = i / kQuantBlock;
    put_bits(out + q6_k::LowAt(c) + i % kQuantBlock, block.q[i] & 15U, q6_k::LowShift(c));
    put_bits(out + q6_k::HighAt(c) + i % kQuantBlock, block.q[i] >> 4U, q6_k::HighShift(c));
  }
}

void fit_q5_k_block(const float* x, const float* importance, std::byte* out) {
  std::memset(out, 0, kTypeBlockBytes<DType::kQ5_K>);
  const auto block = fit_affine_groups<kQuantBlock>(x, importance, 31.0F, 2.0F, 63.0F, out);
  put_factors(block, out + 4);
  put_plane(block.q, 4, out + 16);
  put_nibbles(block.q, out + 48);
}

void fit_q4_k_block(const float* x, const float* importance, std::byte* out) {
  std::memset(out, 0, kTypeBlockBytes<DType::kQ4_K>);
  const auto block = fit_affine_groups<kQuantBlock>(x, importance, 15.0F, 2.0F, 63.0F, out);
  put_factors(block, out + 4);
  put_nibbles(block.q, out + 16);
}

void fit_q3_k_block(const float* x, const float* importance, std::byte* out) {
  std::memset(out, 0, kTypeBlockBytes<DType::kQ3_K>);
  const ScaledBlock block = fit_scaled(x, importance, -4.0F, 1.0F, -32.0F, out + 108);
  put_plane(block.q, 2, out);
  put_pairs(block.q, out + 32);
  std::byte* const packed = out + 96;
  for (int g = 0; g < ScaledBlock::kGroups; ++g) {
    const auto scale = static_cast<unsigned>(block.scales[g] + 32);
    put_bits(packed + g % 8, scale & 15U, g / 8 * 4);
    put_bits(packed + 8 + g % 4, scale >> 4U, g / 4 * 2);
  }
}

void fit_q2_k_block(const float* x, const float* importance, std::byte* out) {
  std::memset(out, 0, kTypeBlockBytes<DType::kQ2_K>);
  const auto block = fit_affine_groups<16>(x, importance, 3.0F, 1.0F, 15.0F, out + 80);
  for (int g = 0; g < AffineBlock<16>::kGroups; ++g) {
    out[g] = static_cast<std::byte>(block.scales[g] | block.offsets[g] << 4U);
  }
  put_pairs(block.q, out + 16);
}

}  // namespace thermocline
