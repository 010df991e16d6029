// Trains the mlp predictor of one layer (Deja Vu, arXiv:2310.17157): out_proj relu(in_proj x) +
// bias is the log-odds that a neuron fires. Class-balanced cross entropy, AdamW (arXiv:1711.05101).
#pragma once

#include <cstdint>
#include <vector>

#include "predictor/low_rank.h"

namespace thermocline {

inline constexpr float kDefaultLearningRate = 1e-2F;

struct MlpOptions {
  int64_t rank = 0;
  uint64_t seed = 1;
  int64_t batch = 1024;
  float learning_rate = kDefaultLearningRate;
  float weight_decay = 1e-2F;
};

// What a layer does with some tokens.
struct MlpSamples {
  std::vector<float> x;  // (n_tokens, d_model)
  std::vector<uint8_t>
      active;  // (n_tokens, d_ff / 8 rounded up), neuron i in bit i % 8 of byte i / 8
};

class MlpTrainer {
 public:
  // Starts from half as many linear directions, each as the difference of two ReLUs. They are the
  // best product of rank / 2 (FactorInMetric), which training then makes more of. REQUIRES: rank
  // even.
  MlpTrainer(int64_t d_model, int64_t d_ff, const LowRank& half, const MlpOptions& options);

  // Weighs the two classes by the share of (token, neuron) pairs that fire.
  void Begin(const MlpSamples& samples, int n_lanes);
  // Begins an epoch, which is n_batches() batches of tokens in a new random order. For each batch
  // every lane calls AddGradient, then one calls Step with the share of the epochs planned that is
  // done (the learning rate falls with it).
  void Shuffle();
  int64_t n_batches() const;
  void AddGradient(int64_t batch, int lane);
  void Step(double progress);

  // Returns the weights without the bias, which is a constant of each neuron that thresholds take
  // in.
  const LowRank& weights() const { return weights_; }

 private:
  struct Moments {  // what AdamW keeps of a matrix
    std::vector<float> mean;
    std::vector<float> square;
  };
  struct LaneState {
    std::vector<float> x, z, s, dz;          // of the lane's tokens
    std::vector<float> d_in, d_out, d_bias;  // gradients
  };
  void Update(std::vector<float>* w, std::vector<float> LaneState::*gradient, Moments* moments,
              float learning_rate, float decay);

  int64_t d_model_;
  int64_t d_ff_;
  MlpOptions options_;
  LowRank weights_;
  std::vector<float> bias_;  // (d_ff)
  Moments in_moments_, out_moments_, bias_moments_;
  const MlpSamples* samples_ = nullptr;
  std::vector<int32_t> order_;
  std::vector<LaneState> lanes_;
  float positive_weight_ = 1;
  int64_t n_steps_ = 0;
  uint64_t epoch_ = 0;
};

}  // namespace thermocline
