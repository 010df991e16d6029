// Normalisation, positions, softmax and activations with any vector unit V.
#pragma once

#include <cstdint>

#include "cpu_kernels/kernels.h"

namespace thermocline {

// e^x after Cephes' expf (S. Moshier): x = n ln2 + r with |r| <= ln2 / 2, e^r by a polynomial of
// degree 6, times 2^n. Relative error below 2e-7. Below -86.6 the result is 0, above 88.72
// infinity.
template <class V>
typename V::Reg exp_simd(typename V::Reg x) {
  using Reg = typename V::Reg;
  const Reg low = V::set1(-86.6F);
  const Reg high = V::set1(88.722F);
  // Operand order: min and max return the second operand when one is NaN, so NaN goes through.
  const Reg clamped = V::min(high, V::max(low, x));
  const Reg n = V::round(V::mul(clamped, V::set1(1.44269504088896341F)));
  Reg r = V::fnma(n, V::set1(0.693359375F), clamped);
  r = V::fnma(n, V::set1(-2.12194440e-4F), r);
  Reg p = V::set1(1.9875691500e-4F);
  p = V::fma(p, r, V::set1(1.3981999507e-3F));
  p = V::fma(p, r, V::set1(8.3334519073e-3F));
  p = V::fma(p, r, V::set1(4.1665795894e-2F));
  p = V::fma(p, r, V::set1(1.6666665459e-1F));
  p = V::fma(p, r, V::set1(5.0000001201e-1F));
  p = V::add(V::fma(V::mul(r, r), p, r), V::set1(1.0F));
  // In two steps: 2^128 is no f32, but the product may still be one.
  const Reg scaled = V::mul(V::mul(p, V::pow2(V::sub(n, V::set1(1.0F)))), V::set1(2.0F));
  const Reg not_small = V::where_less(x, low, V::zero(), scaled);
  return V::where_less(high, x, V::set1(__builtin_inff()), not_small);
}

// Calls full(i) for whole vectors and part(i, n) for the rest.
template <class V, class Full, class Part>
void for_vectors(int64_t n, Full full, Part part) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) full(i);
  if (i < n) part(i, n - i);
}

template <class V, class Op>
void map_in_place(float* x, int64_t n, Op op) {
  for_vectors<V>(
      n, [&](int64_t i) { V::store(x + i, op(V::load(x + i))); },
      [&](int64_t i, int64_t left) { V::store_n(x + i, op(V::load_n(x + i, left)), left); });
}

template <class V>
void rms_norm_simd(const float* x, const float* weight, int64_t n, float eps, float* out) {
  using Reg = typename V::Reg;
  Reg sums[2] = {V::zero(), V::zero()};
  int64_t i = 0;
  for (; i + 2 * V::kLanes <= n; i += 2 * V::kLanes) {
    const Reg a = V::load(x + i);
    const Reg b = V::load(x + i + V::kLanes);
    sums[0] = V::fma(a, a, sums[0]);
    sums[1] = V::fma(b, b, sums[1]);
  }
  for (; i < n; i += V::kLanes) {
    const Reg a = V::load_n(x + i, n - i < V::kLanes ? n - i : V::kLanes);
    sums[0] = V::fma(a, a, sums[0]);
  }
  const float mean = V::sum(V::add(sums[0], sums[1])) / static_cast<float>(n);
  const Reg inverse = V::set1(1.0F / __builtin_sqrtf(mean + eps));
  for_vectors<V>(
      n,
      [&](int64_t at) {
        V::store(out + at, V::mul(V::mul(V::load(x + at), inverse), V::load(weight + at)));
      },
      [&](int64_t at, int64_t left) {
        const Reg scaled = V::mul(V::load_n(x + at, left), inverse);
        V::store_n(out + at, V::mul(scaled, V::load_n(weight + at, left)), left);
      });
}

template <class V>
void layer_norm_simd(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                     float* out) {
  using Reg = typename V::Reg;
  // Sums fn(x) over all elements; those behind the end count as fn(mean), which is 0.
  const auto sum_of = [&](auto fn) {
    Reg sum = V::zero();
    int64_t i = 0;
    for (; i + V::kLanes <= n; i += V::kLanes) sum = V::add(sum, fn(V::load(x + i)));
    float rest = 0.0F;
    float last[V::kLanes];
    if (i < n) {
      V::store(last, fn(V::load_n(x + i, n - i)));
      for (int64_t j = 0; j < n - i; ++j) rest += last[j];
    }
    return V::sum(sum) + rest;
  };
  const Reg mean = V::set1(sum_of([](Reg v) { return v; }) / static_cast<float>(n));
  const float squares = sum_of([&](Reg v) {
    const Reg apart = V::sub(v, mean);
    return V::mul(apart, apart);
  });
  const Reg inverse = V::set1(1.0F / __builtin_sqrtf(squares / static_cast<float>(n) + eps));
  for_vectors<V>(
      n,
      [&](int64_t at) {
        const Reg scaled = V::mul(V::sub(V::load(x + at), mean), inverse);
        const Reg offset = bias == nullptr ? V::zero() : V::load(bias + at);
        V::store(out + at, V::fma(scaled, V::load(weight + at), offset));
      },
      [&](int64_t at, int64_t left) {
        const Reg scaled = V::mul(V::sub(V::load_n(x + at, left), mean), inverse);
        const Reg offset = bias == nullptr ? V::zero() : V::load_n(bias + at, left);
        V::store_n(out + at, V::fma(scaled, V::load_n(weight + at, left), offset), left);
      });
}

template <class V>
void rope_adjacent_simd(float* head, int64_t rot_dim, const float* cos, const float* sin) {
  int64_t i = 0;
  for (; i + V::kLanes <= rot_dim; i += V::kLanes) {
    const typename V::Reg x = V::load(head + i);
    const typename V::Reg turned = V::mul(V::swap_neighbours(x), V::load_twice(sin + i / 2));
    V::store(head + i, V::fmaddsub(x, V::load_twice(cos + i / 2), turned));
  }
  for (; i + 1 < rot_dim; i += 2) {
    const float a = head[i];
    const float b = head[i + 1];
    head[i] = a * cos[i / 2] - b * sin[i / 2];
    head[i + 1] = a * sin[i / 2] + b * cos[i / 2];
  }
}

template <class V>
void rope_halves_simd(float* head, int64_t rot_dim, const float* cos, const float* sin) {
  const int64_t half = rot_dim / 2;
  for (int64_t i = 0; i < half; i += V::kLanes) {
    const int64_t n = half - i < V::kLanes ? half - i : V::kLanes;
    const typename V::Reg a = V::load_n(head + i, n);
    const typename V::Reg b = V::load_n(head + half + i, n);
    const typename V::Reg c = V::load_n(cos + i, n);
    const typename V::Reg s = V::load_n(sin + i, n);
    V::store_n(head + i, V::fnma(b, s, V::mul(a, c)), n);
    V::store_n(head + half + i, V::fma(a, s, V::mul(b, c)), n);
  }
}

template <class V>
float largest_simd(const float* x, int64_t n) {
  typename V::Reg largest = V::set1(x[0]);
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) largest = V::max(largest, V::load(x + i));
  float result = V::largest(largest);
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

template <class V>
float exp_scores_simd(float* x, int64_t n, float scale, float* m) {
  using Reg = typename V::Reg;
  const float top = largest_simd<V>(x, n) * scale;
  *m = top;
  const Reg largest = V::set1(top);
  const Reg factor = V::set1(scale);
  Reg sum = V::zero();
  float rest = 0.0F;
  for_vectors<V>(
      n,
      [&](int64_t i) {
        const Reg e = exp_simd<V>(V::sub(V::mul(V::load(x + i), factor), largest));
        V::store(x + i, e);
        sum = V::add(sum, e);
      },
      [&](int64_t i, int64_t left) {
        const Reg scaled = V::mul(V::load_n(x + i, left), factor);
        V::store_n(x + i, exp_simd<V>(V::sub(scaled, largest)), left);
        for (int64_t j = i; j < n; ++j) rest += x[j];
      });
  return V::sum(sum) + rest;
}

// tanh(x) = 1 - 2 / (e^2x + 1). Where e^2x overflows that is 1, where it is 0 it is -1. Absolute
// error below 3e-7.
template <class V>
typename V::Reg tanh_simd(typename V::Reg x) {
  const typename V::Reg one = V::set1(1.0F);
  const typename V::Reg e = exp_simd<V>(V::add(x, x));
  return V::sub(one, V::div(V::set1(2.0F), V::add(e, one)));
}

// erf(x) after Abramowitz and Stegun, 7.1.26: absolute error below 5e-7 in f32.
template <class V>
typename V::Reg erf_simd(typename V::Reg x) {
  using Reg = typename V::Reg;
  const Reg zero = V::zero();
  const Reg one = V::set1(1.0F);
  const Reg magnitude = V::max(V::sub(zero, x), x);
  const Reg t = V::div(one, V::fma(V::set1(0.3275911F), magnitude, one));
  Reg p = V::set1(1.061405429F);
  p = V::fma(p, t, V::set1(-1.453152027F));
  p = V::fma(p, t, V::set1(1.421413741F));
  p = V::fma(p, t, V::set1(-0.284496736F));
  p = V::fma(p, t, V::set1(0.254829592F));
  const Reg gauss = exp_simd<V>(V::sub(zero, V::mul(x, x)));
  const Reg positive = V::fnma(V::mul(p, t), gauss, one);
  return V::where_less(x, zero, V::sub(zero, positive), positive);
}

template <class V>
void activate_simd(Activation activation, float* gate, int64_t n) {
  using Reg = typename V::Reg;
  const Reg zero = V::zero();
  const Reg one = V::set1(1.0F);
  const Reg half = V::set1(0.5F);
  switch (activation) {
    case Activation::kSilu:
      return map_in_place<V>(
          gate, n, [&](Reg x) { return V::div(x, V::add(one, exp_simd<V>(V::sub(zero, x)))); });
    case Activation::kRelu:
      return map_in_place<V>(gate, n, [&](Reg x) { return V::max(zero, x); });
    case Activation::kReluSqr:
      return map_in_place<V>(gate, n, [&](Reg x) {
        const Reg positive = V::max(zero, x);
        return V::mul(positive, positive);
      });
    case Activation::kGelu:
      return map_in_place<V>(gate, n, [&](Reg x) {
        const Reg scaled = V::mul(x, V::set1(0.70710678118654752F));
        return V::mul(V::mul(half, x), V::add(one, erf_simd<V>(scaled)));
      });
    case Activation::kGeluTanh:
      return map_in_place<V>(gate, n, [&](Reg x) {
        const Reg cubic = V::fma(V::mul(V::set1(0.044715F), V::mul(x, x)), x, x);
        const Reg inner = V::mul(V::set1(0.79788456080286536F), cubic);
        return V::mul(V::mul(half, x), V::add(one, tanh_simd<V>(inner)));
      });
  }
}

template <class V>
void drop_below_simd(float* x, int64_t n, float threshold) {
  using Reg = typename V::Reg;
  const Reg limit = V::set1(threshold);
  map_in_place<V>(x, n, [&](Reg v) { return V::where_less(v, limit, V::zero(), v); });
}

template <class V>
void cut_below_simd(const float* x, const float* factors, float least, int64_t n, float* out) {
  using Reg = typename V::Reg;
  const Reg limit = V::set1(least);
  const auto cut = [limit](Reg v, Reg factor) {
    return V::where_less(V::mul(V::abs(v), factor), limit, V::zero(), v);
  };
  const Reg one = V::set1(1.0F);
  for_vectors<V>(
      n,
      [&](int64_t i) {
        V::store(out + i, cut(V::load(x + i), factors == nullptr ? one : V::load(factors + i)));
      },
      [&](int64_t i, int64_t k) {
        const Reg factor = factors == nullptr ? one : V::load_n(factors + i, k);
        V::store_n(out + i, cut(V::load_n(x + i, k), factor), k);
      });
}

template <class V>
void scale_simd(float* x, int64_t n, float scale, float cap) {
  using Reg = typename V::Reg;
  const Reg factor = V::set1(scale);
  if (cap == 0.0F) {
    map_in_place<V>(x, n, [&](Reg v) { return V::mul(v, factor); });
    return;
  }
  const Reg inner = V::set1(scale / cap);
  const Reg outer = V::set1(cap);
  map_in_place<V>(x, n, [&](Reg v) { return V::mul(outer, tanh_simd<V>(V::mul(v, inner))); });
}

template <class V>
void multiply_simd(float* x, const float* y, int64_t n) {
  for_vectors<V>(
      n, [&](int64_t i) { V::store(x + i, V::mul(V::load(x + i), V::load(y + i))); },
      [&](int64_t i, int64_t k) {
        V::store_n(x + i, V::mul(V::load_n(x + i, k), V::load_n(y + i, k)), k);
      });
}

template <class V>
void add_simd(float* x, const float* y, int64_t n) {
  for_vectors<V>(
      n, [&](int64_t i) { V::store(x + i, V::add(V::load(x + i), V::load(y + i))); },
      [&](int64_t i, int64_t k) {
        V::store_n(x + i, V::add(V::load_n(x + i, k), V::load_n(y + i, k)), k);
      });
}

template <class V>
int64_t compact_nonzero_simd(const float* values, int64_t n, int32_t base, int32_t* indices) {
  int64_t count = 0;
  for_vectors<V>(
      n,
      [&](int64_t i) {
        count += V::store_nonzero(indices + count, V::load(values + i), V::kLanes,
                                  base + static_cast<int32_t>(i));
      },
      [&](int64_t i, int64_t left) {
        count += V::store_nonzero(indices + count, V::load_n(values + i, left), left,
                                  base + static_cast<int32_t>(i));
      });
  return count;
}

template <class V>
uint64_t sum_words_simd(const uint64_t* words, int64_t n) {
  constexpr int kSums = 4;
  constexpr int64_t kStep = kSums * V::kWords;
  typename V::Words sums[kSums] = {};
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (int s = 0; s < kSums; ++s) sums[s] = V::add_words(sums[s], words + i + s * V::kWords);
  }
  uint64_t total = 0;
  for (int s = 0; s < kSums; ++s) total += V::total_words(sums[s]);
  for (; i < n; ++i) total += words[i];
  return total;
}

}  // namespace thermocline
