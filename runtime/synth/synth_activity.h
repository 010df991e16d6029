// How often each neuron of a synthetic model fires: a power law over the neurons of a layer,
// hottest first, that meets a mean density and a skew.
//
// The input x of an FFN is normalised, so gate_i . x over random tokens is close to normal with
// variance ||gate_i||^2. A bias of ||gate_i|| times the normal quantile of p makes neuron i fire in
// a share p of the tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu_kernels/kernels.h"

namespace thermocline {

struct ActivityTarget {
  double density = 0.1;      // mean share of a layer's neurons that fire in a token
  double hottest = 0.26;     // this share of a layer's neurons ...
  double activations = 0.8;  // ... takes this share of its activations
};

inline constexpr double kMostProbability = 0.999;  // a neuron that never rests is no ReLU neuron
inline constexpr double kMostDensity = 0.99;

// Returns the number of neurons that `hottest` means.
int64_t HottestNeurons(const ActivityTarget& target, int64_t d_ff);

// Returns (d_ff) firing probabilities, hottest first: min(kMostProbability, c * rank^-a), with a
// and c such that density and skew hold after the cut. Throws Error for a pair that no such law
// has, with what is possible.
std::vector<double> FiringProbabilities(const ActivityTarget& target, int64_t d_ff);

// Returns the x below which a standard normal variable lies with probability p. REQUIRES: 0 < p <
// 1.
double NormalQuantile(double p);

// Returns (d_ff) neurons of a layer, hot to cold: a permutation that the seed chooses.
std::vector<int32_t> HotToCold(uint64_t seed, int64_t layer, int64_t d_ff);

// Moments of act(z + bias), z standard normal. REQUIRES: a ReLU kind.
struct ActivationMoments {
  double mean = 0;
  double mean_square = 0;
};
ActivationMoments MomentsOf(Activation activation, double bias);

}  // namespace thermocline
