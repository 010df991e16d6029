#include "profiler/predictors/predictor_observers.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

class ManyLowRankScorers final : public LayerScorer {
 public:
  ManyLowRankScorers(const LayerPredictor& predictor, int n_lanes) {
    for (int i = 0; i < n_lanes; ++i) lanes_.emplace_back(CpuKernels(), predictor);
  }
  void Score(int lane, const float* x, float* scores) override {
    lanes_[static_cast<size_t>(lane)].Score(x, scores);
  }

 private:
  std::vector<LowRankScorer> lanes_;
};

class ManySignScorers final : public LayerScorer {
 public:
  ManySignScorers(const SignRows& rows, int n_lanes)
      : rows_(rows), lanes_(static_cast<size_t>(n_lanes)) {
    for (Scratch& lane : lanes_) lane.counts.resize(static_cast<size_t>(rows.n_neurons()));
  }
  void Score(int lane, const float* x, float* scores) override {
    Scratch& scratch = lanes_[static_cast<size_t>(lane)];
    rows_.Prepare(x, &scratch.input);
    rows_.Score(scratch.input, 0, rows_.n_neurons(), scratch.counts.data(), scores);
  }

 private:
  struct Scratch {
    SignInput input;
    std::vector<int32_t> counts;
  };
  const SignRows& rows_;
  std::vector<Scratch> lanes_;
};

float BiasAt(const OperatingPoint& point, int64_t i) {
  return (point.bias == nullptr ? 0.0F : point.bias[i]) - point.predictor_threshold;
}

}  // namespace

std::unique_ptr<LayerScorer> MakeLowRankScorer(const LayerPredictor& predictor, int n_lanes) {
  return std::make_unique<ManyLowRankScorers>(predictor, n_lanes);
}

std::unique_ptr<LayerScorer> MakeSignScorer(const SignRows& rows, int n_lanes) {
  return std::make_unique<ManySignScorers>(rows, n_lanes);
}

void CalibrationObserver::OnFfn(const Lane& lane, const FfnObservation& observation) {
  const int64_t d_model = observation.slice->gate.cols;
  const auto [begin, end] = lane.Split(d_model, 16);
  moments_.AddRows(observation.x, observation.n_tokens, begin, end);
  if (lane.rank == 0) {
    moments_.CountTokens(observation.n_tokens);
    if (samples_ != nullptr) Keep(observation);
  }
  lane.Sync();
}

void CalibrationObserver::Keep(const FfnObservation& observation) {
  const int64_t n = observation.n_tokens;
  const int64_t d_ff = observation.slice->n_neurons;
  const int64_t row_bytes = (d_ff + 7) / 8;
  samples_->x.insert(samples_->x.end(), observation.x,
                     observation.x + n * observation.slice->gate.cols);
  const size_t first = samples_->active.size();
  samples_->active.resize(first + static_cast<size_t>(n * row_bytes), 0);
  for (int64_t t = 0; t < n; ++t) {
    uint8_t* bits = samples_->active.data() + first + t * row_bytes;
    const float* h = observation.h + t * d_ff;
    for (int64_t i = 0; i < d_ff; ++i) {
      bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | (h[i] != 0 ? 1 : 0) << (i % 8));
    }
  }
}

void LookAheadObserver::OnFfn(const Lane& lane, const FfnObservation& observation) {
  const int64_t d_model = observation.slice->gate.cols;
  const int64_t n = observation.n_tokens;
  CHECK(static_cast<size_t>((n_tokens_ + n) * d_model) <= previous_.size());
  float* before = previous_.data() + n_tokens_ * d_model;
  FfnObservation seen = observation;
  if (observation.layer > 0) seen.x = before;
  if (moments_ != nullptr) {
    const auto [begin, end] = lane.Split(d_model, 16);
    moments_->AddRows(observation.x, before, n, begin, end);
  }
  if (inner_ != nullptr) inner_->OnFfn(lane, seen);
  lane.Sync();  // all lanes have read what is overwritten now
  const auto [first, last] = lane.Split(n);
  std::copy(observation.x + first * d_model, observation.x + last * d_model,
            before + first * d_model);
  lane.Sync();
  if (lane.rank == 0) {
    n_tokens_ += n;
    if (moments_ != nullptr) moments_->CountTokens(n);
  }
  lane.Sync();
}

HeldoutObserver::HeldoutObserver(std::vector<double> down_norms, int64_t d_model,
                                 int64_t max_tokens)
    : down_norms_(std::move(down_norms)),
      d_model_(d_model),
      d_ff_(static_cast<int64_t>(down_norms_.size())),
      x_(static_cast<size_t>(max_tokens * d_model)),
      parts_(static_cast<size_t>(max_tokens * d_ff_)) {}

void HeldoutObserver::OnFfn(const Lane& lane, const FfnObservation& observation) {
  CHECK(observation.slice->n_neurons == d_ff_);
  CHECK(static_cast<size_t>((n_tokens_ + observation.n_tokens) * d_ff_) <= parts_.size());
  const auto [begin, end] = lane.Split(observation.n_tokens);
  std::copy(observation.x + begin * d_model_, observation.x + end * d_model_,
            x_.begin() + (n_tokens_ + begin) * d_model_);
  for (int64_t t = begin; t < end; ++t) {
    const float* h = observation.h + t * d_ff_;
    float* parts = parts_.data() + (n_tokens_ + t) * d_ff_;
    for (int64_t i = 0; i < d_ff_; ++i) {
      const auto part = static_cast<float>(std::abs(h[i]) * down_norms_[static_cast<size_t>(i)]);
      // An active neuron counts as active also where its part rounds to nothing.
      parts[i] = h[i] == 0 ? 0 : std::max(part, 1e-30F);
    }
  }
  lane.Sync();
  if (lane.rank == 0) n_tokens_ += observation.n_tokens;
  lane.Sync();
}

void HeldoutObserver::Score(LayerScorer& scorer, int lane, int64_t begin, int64_t end,
                            float* scores) const {
  for (int64_t t = begin; t < end; ++t) {
    scorer.Score(lane, x_.data() + t * d_model_, scores + t * d_ff_);
  }
}

MeasureObserver::MeasureObserver(LayerScorer& scorer, const std::vector<OperatingPoint>& points,
                                 int64_t d_ff, int n_lanes)
    : scorer_(scorer), points_(points), d_ff_(d_ff), lanes_(static_cast<size_t>(n_lanes)) {
  for (Counts& counts : lanes_) {
    counts.n_predicted.assign(points.size(), 0);
    counts.n_hits.assign(points.size(), 0);
    counts.scores.resize(static_cast<size_t>(d_ff));
  }
}

void MeasureObserver::OnFfn(const Lane& lane, const FfnObservation& observation) {
  CHECK(observation.slice->n_neurons == d_ff_);
  Counts& counts = lanes_[static_cast<size_t>(lane.rank)];
  const auto [begin, end] = lane.Split(observation.n_tokens);
  for (int64_t t = begin; t < end; ++t) {
    scorer_.Score(lane.rank, observation.x + t * observation.slice->gate.cols,
                  counts.scores.data());
    CountToken(observation.h + t * d_ff_, counts);
  }
  lane.Sync();
}

void MeasureObserver::CountToken(const float* h, Counts& counts) const {
  ++counts.n_tokens;
  for (int64_t i = 0; i < d_ff_; ++i) counts.n_active += h[i] != 0 ? 1 : 0;
  for (size_t p = 0; p < points_.size(); ++p) {
    int64_t n_predicted = 0;
    int64_t n_hits = 0;
    for (int64_t i = 0; i < d_ff_; ++i) {
      const bool predicted = counts.scores[static_cast<size_t>(i)] + BiasAt(points_[p], i) > 0;
      n_predicted += predicted ? 1 : 0;
      n_hits += predicted && h[i] != 0 ? 1 : 0;
    }
    counts.n_predicted[p] += n_predicted;
    counts.n_hits[p] += n_hits;
  }
}

double MeasureObserver::Finish(std::vector<OperatingPoint>* points) const {
  int64_t n_tokens = 0;
  int64_t n_active = 0;
  for (const Counts& counts : lanes_) {
    n_tokens += counts.n_tokens;
    n_active += counts.n_active;
  }
  const auto n_pairs = static_cast<double>(std::max<int64_t>(1, n_tokens * d_ff_));
  for (size_t p = 0; p < points->size(); ++p) {
    int64_t n_predicted = 0;
    int64_t n_hits = 0;
    for (const Counts& counts : lanes_) {
      n_predicted += counts.n_predicted[p];
      n_hits += counts.n_hits[p];
    }
    // Where nothing is active nothing can be missed.
    (*points)[p].recall =
        n_active == 0
            ? 1.0F
            : static_cast<float>(static_cast<double>(n_hits) / static_cast<double>(n_active));
    (*points)[p].density = static_cast<float>(static_cast<double>(n_predicted) / n_pairs);
  }
  return static_cast<double>(n_active) / n_pairs;
}

}  // namespace thermocline
