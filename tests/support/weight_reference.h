// What kernel tests compare with, on the CPU and on the GPU: weights decoded independently of the
// code under test, activations as they are quantised, and how far f32 sums may be off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "runtime/core/dtype.h"

namespace thermocline::testing {

bool IsQuantised(DType dtype);
// Returns the smallest number of columns, n or more, that rows of the type can have.
int64_t WholeBlocks(DType dtype, int64_t n);

// |y - ref| <= (fixed + per_term * n) * 2^-24 * sum|w_i x_i| + 2^-23 * |ref| + 1e-30.
// fixed: roundings that one product goes through; per_term: additions in a chain, for n terms
// spread over the fewest partial sums of any kernel (8 lanes; one term per 32 weights for quantised
// types).
struct Tolerance {
  double fixed;
  double per_term;
};
double AllowedError(Tolerance tolerance, int64_t n, double sum_of_magnitudes, double reference);

double DecodeHalf(uint16_t bits);
// Returns n weights of a row, exactly.
std::vector<double> DecodeRow(DType dtype, const std::byte* row, int64_t n);
// Returns what the roundings of a product with each weight are relative to: |w|; for Q4_1 |d q| +
// |m|, since kernels multiply the two apart.
std::vector<double> WeightMagnitudes(DType dtype, const std::byte* row, int64_t n);

std::vector<float> RandomFloats(std::mt19937* rng, int64_t n, float scale = 1.0F);

// Returns what int8 per block of 32 with an f32 scale keeps of x. REQUIRES: a multiple of 32
// elements.
std::vector<double> QuantisedActivations(const std::vector<float>& x);

}  // namespace thermocline::testing
