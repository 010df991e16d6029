// Scales, and offsets, of least squared error for a group of weights that share them. The error of
// each weight counts by its importance (all of them > 0).
//
// A search tries a few scales. For each it rounds the weights to integers, and then takes the scale
// and the offset that serve these integers best, which have a closed form (least squares). Values
// are divided by the group's range before, so that no sum overflows. Sums go by four lanes in a
// fixed order, which a compiler can vectorise and which gives the same bytes on every machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/core/half.h"

namespace thermocline {

// Returns the nearest integer, ties to even, of a number below 2^22: adding 1.5 * 2^23 rounds to
// one.
inline float nearest_integer(float x) { return (x + 12582912.0F) - 12582912.0F; }

// Returns x within [low, high], and `high` for NaN.
inline float within(float x, float low, float high) { return std::max(low, std::min(high, x)); }

// Returns the nearest of the integers in [low, high].
inline float integer_within(float x, float low, float high) {
  return nearest_integer(within(x, low, high));
}

// Returns 1 / step, or 0 where that is no number.
inline float inverse_of(float step) {
  const float inverse = 1.0F / step;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

inline void put_u16(std::byte* out, uint16_t value) { std::memcpy(out, &value, sizeof(value)); }

// Stores an f16, and returns it as it is stored.
inline float put_half(std::byte* out, float value) {
  const uint16_t half = F32ToF16(value);
  put_u16(out, half);
  return F16ToF32(half);
}

// Returns the value of largest magnitude, with its sign: the first of several, 0 of none.
inline float largest_of(const float* x, int64_t n) {
  float largest = 0.0F;
  for (int64_t i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  return largest;
}

class LaneSum {
 public:
  static constexpr int kLanes = 4;

  void add(int lane, float value) { parts_[lane] += value; }
  float total() const { return (parts_[0] + parts_[2]) + (parts_[1] + parts_[3]); }

 private:
  float parts_[kLanes] = {};
};

// Calls f(i, lane) for each i in [0, kCount).
template <int kCount, typename F>
inline void for_lanes(const F& f) {
  for (int i = 0; i < kCount; i += LaneSum::kLanes) {
    for (int lane = 0; lane < LaneSum::kLanes; ++lane) f(i + lane, lane);
  }
}

// Tries scales for weights that are divided by their largest (by magnitude), and keeps the best.
template <int kCount>
class ScaleSearch {
 public:
  // x, importance: (kCount) f32.
  ScaleSearch(const float* x, const float* importance)
      : importance_(importance), largest_(largest_of(x, kCount)) {
    const float inverse = 1.0F / largest_;
    // Zeros, and weights far too small for an f16, have the scale 0.
    empty_ = !std::isfinite(inverse);
    for (int i = 0; !empty_ && i < kCount; ++i) parts_[i] = x[i] * inverse;
  }

  // Tries the scale that is best for the integers level_of(weight / largest * inverse).
  template <typename LevelOf>
  void try_inverse(float inverse, const LevelOf& level_of) {
    if (empty_) return;
    LaneSum products;
    LaneSum squares;
    for_lanes<kCount>([&](int i, int lane) {
      const float level = level_of(parts_[i] * inverse);
      const float counted = importance_[i] * level;
      products.add(lane, counted * parts_[i]);
      squares.add(lane, counted * level);
    });
    const float scale = products.total() / squares.total();
    const float gain = scale * products.total();  // what it takes off the sum of squares
    if (gain > best_gain_) {
      best_gain_ = gain;
      best_ = scale;
    }
  }

  float scale() const { return largest_ * best_; }

 private:
  const float* importance_;
  float largest_;
  bool empty_ = false;
  float parts_[kCount];
  float best_gain_ = 0.0F;
  float best_ = 0.0F;
};

// Returns a scale for weights whose integers lie in [lowest, -lowest - 1]. The largest becomes
// `lowest`, the end of the range that has no partner, or comes near it: nine scales are tried.
template <int kCount>
float fit_scale(const float* x, const float* importance, float lowest, float reach) {
  ScaleSearch<kCount> search(x, importance);
  for (int step = -4; step <= 4; ++step) {
    search.try_inverse(lowest + reach * 0.25F * static_cast<float>(step), [lowest](float value) {
      return integer_within(value, lowest, -lowest - 1.0F);
    });
  }
  return search.scale();
}

// A weight is scale * integer - offset.
struct AffineFit {
  float scale = 0.0F;
  float offset = 0.0F;
};

// Sums over a group with values x and integers q; each term is times its importance.
struct AffineSums {
  float ones = 0.0F;
  float x = 0.0F;
  float q = 0.0F;
  float xq = 0.0F;
  float qq = 0.0F;

  // Returns what the fit takes off the sum of squares.
  float GainOf(const AffineFit& fit) const {
    return 2.0F * (fit.scale * (xq + fit.offset * q) - fit.offset * x) -
           fit.scale * fit.scale * qq - fit.offset * fit.offset * ones;
  }
};

// Returns the fit of least squared error whose offset is at least `smallest`.
inline AffineFit least_squares(const AffineSums& sums, float smallest) {
  const float determinant = sums.ones * sums.qq - sums.q * sums.q;
  AffineFit fit;
  if (determinant > 0.0F) fit.offset = (sums.q * sums.xq - sums.qq * sums.x) / determinant;
  fit.offset = std::max(fit.offset, smallest);
  if (sums.qq > 0.0F) fit.scale = (sums.xq + fit.offset * sums.q) / sums.qq;
  return fit;
}

// What of an offset a type can store.
enum class Offsets { kNotNegative, kAny };

// Returns a scale >= 0 and an offset for weights whose integers lie in [0, highest]. The smallest
// weight becomes 0, and the largest `highest` or comes near it: nine scales are tried, from `reach`
// below to `reach` above.
template <int kCount, Offsets kOffsets>
AffineFit fit_affine(const float* x, const float* importance, float highest, float reach) {
  const auto [low, high] = std::minmax_element(x, x + kCount);
  const float smallest = kOffsets == Offsets::kAny ? *low : std::min(*low, 0.0F);
  const float range = *high - smallest;
  const float inverse = inverse_of(range);
  if (inverse == 0.0F) return {std::isfinite(range) ? 0.0F : range, -smallest};
  float parts[kCount];
  LaneSum ones;
  LaneSum values;
  for_lanes<kCount>([&](int i, int lane) {
    parts[i] = (x[i] - smallest) * inverse;
    ones.add(lane, importance[i]);
    values.add(lane, importance[i] * parts[i]);
  });
  // In units of the range, from the smallest weight on.
  const float least_offset = kOffsets == Offsets::kAny ? -1.0F : smallest * inverse;
  AffineFit best;
  float best_gain = 0.0F;
  for (int step = -4; step <= 4; ++step) {
    const float tried = highest + reach * 0.25F * static_cast<float>(step);
    LaneSum q_sum;
    LaneSum products;
    LaneSum squares;
    for_lanes<kCount>([&](int i, int lane) {
      const float q = std::min(highest, nearest_integer(parts[i] * tried));
      const float counted = importance[i] * q;
      q_sum.add(lane, counted);
      products.add(lane, counted * parts[i]);
      squares.add(lane, counted * q);
    });
    const AffineSums sums = {.ones = ones.total(),
                             .x = values.total(),
                             .q = q_sum.total(),
                             .xq = products.total(),
                             .qq = squares.total()};
    const AffineFit fit = least_squares(sums, least_offset);
    if (const float gain = sums.GainOf(fit); gain > best_gain) {
      best_gain = gain;
      best = fit;
    }
  }
  return {best.scale * range, best.offset * range - smallest};
}

}  // namespace thermocline
