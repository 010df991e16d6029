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
// Returns n weights of a row, exactly. Most quantised types come from ReadWeightChunk, which
// tests/cpu_kernels/blocks_test.cc compares with the public gguf package.
std::vector<double> DecodeRow(DType dtype, const std::byte* row, int64_t n);
// Returns what the roundings of a product with each weight are relative to: |w|, or the sum of the
// magnitudes of the terms that kernels multiply apart, a scaled integer and an offset.
std::vector<double> WeightMagnitudes(DType dtype, const std::byte* row, int64_t n);

// Writes a row in which every pattern of bits may occur, but in the factors of a block (f16 or an
// exponent), which bring the weights to magnitudes of about 1. out: RowBytes(dtype, n_cols) bytes,
// at any address. REQUIRES: whole blocks.
void RandomRow(DType dtype, int64_t n_cols, std::mt19937* rng, std::byte* out);
// The same, with every byte beside those factors the same: the largest integers, or the smallest.
void ExtremeRow(DType dtype, int64_t n_cols, std::byte value, std::mt19937* rng, std::byte* out);
// Makes the first factor of every block of a row NaN, or every weight of a type without blocks.
// Returns whether the type can: MXFP4, whose factors are powers of two, cannot, and stays as it is.
bool SpoilRow(DType dtype, int64_t n_cols, std::byte* row);

std::vector<float> RandomFloats(std::mt19937* rng, int64_t n, float scale = 1.0F);

// Returns what int8 per block of 32 with an f32 scale keeps of x. REQUIRES: a multiple of 32
// elements.
std::vector<double> QuantisedActivations(const std::vector<float>& x);
// The same where 256 activations share a scale, and each 32 of them a factor from 1 to 127.
// rest, where it is not null, becomes what that leaves of x, as f32 has it: steps are scale times
// factor, rounded.
std::vector<double> SuperQuantisedActivations(const std::vector<float>& x,
                                              std::vector<float>* rest = nullptr);

}  // namespace thermocline::testing
