#include "predictor/mlp_trainer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

#include "runtime/core/error.h"
#include "runtime/threads/sgemm.h"

namespace thermocline {
namespace {

constexpr float kMeanDecay = 0.9F;
constexpr float kSquareDecay = 0.999F;
constexpr float kEpsilon = 1e-8F;
constexpr float kMaxPositiveWeight = 50;

// c = op(a) op(b), row-major: (m, k) x (k, n).
void Multiply(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
              const float* b, float* c) {
  Sgemm(transpose_a, transpose_b, m, n, k, a, transpose_a ? m : k, b, transpose_b ? k : n, c, n);
}

size_t Size(int64_t a, int64_t b) { return static_cast<size_t>(a * b); }

}  // namespace

MlpTrainer::MlpTrainer(int64_t d_model, int64_t d_ff, const LowRank& half,
                       const MlpOptions& options)
    : d_model_(d_model), d_ff_(d_ff), options_(options), bias_(static_cast<size_t>(d_ff), 0.0F) {
  const int64_t rank = options.rank;
  CHECK(rank % 2 == 0 && half.in_proj.size() == Size(rank / 2, d_model));
  weights_.in_proj.resize(Size(rank, d_model));
  weights_.out_proj.resize(Size(d_ff, rank));
  std::mt19937_64 random(options.seed);
  std::normal_distribution<float> jitter(1.0F, 0.1F);  // makes a pair's halves part
  for (int64_t r = 0; r < rank; ++r) {
    const float sign = r % 2 == 0 ? 1.0F : -1.0F;
    const float in_scale = sign * jitter(random);
    for (int64_t c = 0; c < d_model; ++c) {
      weights_.in_proj[Size(r, d_model) + static_cast<size_t>(c)] =
          in_scale * half.in_proj[Size(r / 2, d_model) + static_cast<size_t>(c)];
    }
    for (int64_t i = 0; i < d_ff; ++i) {
      weights_.out_proj[Size(i, rank) + static_cast<size_t>(r)] =
          sign * half.out_proj[Size(i, rank / 2) + static_cast<size_t>(r / 2)];
    }
  }
  for (auto [moments, n] : {std::pair{&in_moments_, weights_.in_proj.size()},
                            std::pair{&out_moments_, weights_.out_proj.size()},
                            std::pair{&bias_moments_, bias_.size()}}) {
    moments->mean.assign(n, 0.0F);
    moments->square.assign(n, 0.0F);
  }
}

void MlpTrainer::Begin(const MlpSamples& samples, int n_lanes) {
  samples_ = &samples;
  const int64_t n_tokens = static_cast<int64_t>(samples.x.size()) / d_model_;
  order_.resize(static_cast<size_t>(n_tokens));
  std::iota(order_.begin(), order_.end(), 0);
  int64_t n_active = 0;
  for (const uint8_t bits : samples.active) n_active += std::popcount(bits);
  const double density = static_cast<double>(n_active) / static_cast<double>(n_tokens * d_ff_);
  positive_weight_ = std::clamp(static_cast<float>((1 - density) / std::max(density, 1e-6)), 1.0F,
                                kMaxPositiveWeight);
  const int64_t rows = options_.batch / n_lanes + 1;
  lanes_.resize(static_cast<size_t>(n_lanes));
  for (LaneState& lane : lanes_) {
    lane.x.resize(Size(rows, d_model_));
    lane.z.resize(Size(rows, options_.rank));
    lane.dz.resize(Size(rows, options_.rank));
    lane.s.resize(Size(rows, d_ff_));
    lane.d_in.resize(weights_.in_proj.size());
    lane.d_out.resize(weights_.out_proj.size());
    lane.d_bias.resize(bias_.size());
  }
}

void MlpTrainer::Shuffle() {
  std::mt19937_64 random(options_.seed * 1000003 + ++epoch_);
  std::shuffle(order_.begin(), order_.end(), random);
}

int64_t MlpTrainer::n_batches() const {
  return std::max<int64_t>(1, static_cast<int64_t>(order_.size()) / options_.batch);
}

void MlpTrainer::AddGradient(int64_t batch, int lane) {
  LaneState& l = lanes_[static_cast<size_t>(lane)];
  const auto n_lanes = static_cast<int64_t>(lanes_.size());
  const int64_t first = batch * options_.batch;
  const int64_t n_batch = std::min(options_.batch, static_cast<int64_t>(order_.size()) - first);
  const int64_t begin = first + n_batch * lane / n_lanes;
  const int64_t n = first + n_batch * (lane + 1) / n_lanes - begin;
  std::fill(l.d_bias.begin(), l.d_bias.end(), 0.0F);
  if (n == 0) {
    std::fill(l.d_in.begin(), l.d_in.end(), 0.0F);
    std::fill(l.d_out.begin(), l.d_out.end(), 0.0F);
    return;
  }
  for (int64_t t = 0; t < n; ++t) {
    const int64_t token = order_[static_cast<size_t>(begin + t)];
    std::copy_n(samples_->x.data() + token * d_model_, d_model_, l.x.data() + t * d_model_);
  }
  const int64_t rank = options_.rank;
  Multiply(false, true, n, rank, d_model_, l.x.data(), weights_.in_proj.data(), l.z.data());
  for (float& z : l.z) z = std::max(z, 0.0F);
  Multiply(false, true, n, d_ff_, rank, l.z.data(), weights_.out_proj.data(), l.s.data());
  const float scale = 1.0F / static_cast<float>(n_batch);
  const int64_t row_bytes = (d_ff_ + 7) / 8;
  for (int64_t t = 0; t < n; ++t) {
    const uint8_t* active =
        samples_->active.data() + order_[static_cast<size_t>(begin + t)] * row_bytes;
    float* s = l.s.data() + t * d_ff_;
    for (int64_t i = 0; i < d_ff_; ++i) {
      const bool fires = (active[i / 8] >> (i % 8) & 1) != 0;
      const float p = 1.0F / (1.0F + std::exp(-(s[i] + bias_[static_cast<size_t>(i)])));
      s[i] = scale * (fires ? positive_weight_ * (p - 1) : p);  // the slope of the loss
      l.d_bias[static_cast<size_t>(i)] += s[i];
    }
  }
  Multiply(true, false, d_ff_, rank, n, l.s.data(), l.z.data(), l.d_out.data());
  Multiply(false, false, n, rank, d_ff_, l.s.data(), weights_.out_proj.data(), l.dz.data());
  for (size_t i = 0; i < Size(n, rank); ++i) l.dz[i] = l.z[i] > 0 ? l.dz[i] : 0;
  Multiply(true, false, rank, d_model_, n, l.dz.data(), l.x.data(), l.d_in.data());
}

void MlpTrainer::Step(double progress) {
  ++n_steps_;
  const auto cosine = static_cast<float>(0.5 * (1 + std::cos(progress * 3.14159265358979)));
  const float rate = options_.learning_rate * std::max(cosine, 0.02F);
  Update(&weights_.in_proj, &LaneState::d_in, &in_moments_, rate, options_.weight_decay);
  Update(&weights_.out_proj, &LaneState::d_out, &out_moments_, rate, options_.weight_decay);
  Update(&bias_, &LaneState::d_bias, &bias_moments_, rate, 0);
}

void MlpTrainer::Update(std::vector<float>* w, std::vector<float> LaneState::*gradient,
                        Moments* moments, float learning_rate, float decay) {
  const auto steps = static_cast<float>(n_steps_);
  const float mean_scale = 1 / (1 - std::pow(kMeanDecay, steps));
  const float square_scale = 1 / (1 - std::pow(kSquareDecay, steps));
  for (size_t i = 0; i < w->size(); ++i) {
    float g = 0;
    for (const LaneState& lane : lanes_) g += (lane.*gradient)[i];
    float& mean = moments->mean[i];
    float& square = moments->square[i];
    mean = kMeanDecay * mean + (1 - kMeanDecay) * g;
    square = kSquareDecay * square + (1 - kSquareDecay) * g * g;
    const float step = mean * mean_scale / (std::sqrt(square * square_scale) + kEpsilon);
    (*w)[i] -= learning_rate * (step + decay * (*w)[i]);
  }
}

}  // namespace thermocline
