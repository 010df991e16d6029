// What building a predictor sees of a layer while the executor runs it: sums over its inputs, then
// the scores of held-out tokens beside what they really do, then how good the chosen points are.
// All neurons are in the order of the model's file; the whole layer lies on one tier.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "predictor/input_moments.h"
#include "predictor/mlp_trainer.h"
#include "predictor/operating_points.h"
#include "predictor/predictor.h"
#include "predictor/scorer.h"
#include "predictor/sign_predictor.h"
#include "runtime/pass/executor.h"

namespace thermocline {

// Sums over inputs. With `samples` it also keeps every input and what fired.
class CalibrationObserver final : public FfnObserver {
 public:
  CalibrationObserver(InputMoments& moments, MlpSamples* samples)
      : moments_(moments), samples_(samples) {}
  void OnFfn(const Lane& lane, const FfnObservation& observation) override;

 private:
  void Keep(const FfnObservation& observation);

  InputMoments& moments_;
  MlpSamples* samples_;
};

// Shows another observer the inputs of the layer before in place of a layer's own: a predictor that
// looks ahead is built and judged on these. The first layer has none before it and keeps its own.
class LookAheadObserver final : public FfnObserver {
 public:
  // previous: (n_tokens, d_model), the inputs of the layer before, of all tokens in the order in
  // which they pass; each is replaced by this layer's once it was used. inner: may be null.
  // moments: null, or sums over this layer's input and that of the layer before.
  LookAheadObserver(std::vector<float>& previous, FfnObserver* inner, CrossMoments* moments)
      : previous_(previous), inner_(inner), moments_(moments) {}
  void OnFfn(const Lane& lane, const FfnObservation& observation) override;

 private:
  std::vector<float>& previous_;
  FfnObserver* inner_;
  CrossMoments* moments_;
  int64_t n_tokens_ = 0;  // tokens seen so far
};

// Scores tokens. Several lanes may do so at once.
class LayerScorer {
 public:
  virtual ~LayerScorer() = default;
  // Writes scores: (d_ff), without biases and thresholds. x: (d_model).
  virtual void Score(int lane, const float* x, float* scores) = 0;
};
std::unique_ptr<LayerScorer> MakeLowRankScorer(const LayerPredictor& predictor, int n_lanes);
std::unique_ptr<LayerScorer> MakeSignScorer(const SignRows& rows, int n_lanes);

// Keeps inputs and contributions of every token it sees, up to the room it was given.
class HeldoutObserver final : public FfnObserver {
 public:
  HeldoutObserver(std::vector<double> down_norms, int64_t d_model, int64_t max_tokens);
  void OnFfn(const Lane& lane, const FfnObservation& observation) override;

  int64_t n_tokens() const { return n_tokens_; }
  // Writes rows [begin, end) of scores: (n_tokens, d_ff). Several lanes may do so at once.
  void Score(LayerScorer& scorer, int lane, int64_t begin, int64_t end, float* scores) const;
  // Returns the first n tokens.
  ScoredTokens Tokens(const float* scores, int64_t n) const {
    return {n, d_ff_, scores, parts_.data()};
  }

 private:
  const std::vector<double> down_norms_;
  const int64_t d_model_;
  const int64_t d_ff_;
  int64_t n_tokens_ = 0;
  std::vector<float> x_;      // (max_tokens, d_model)
  std::vector<float> parts_;  // (max_tokens, d_ff)
};

// Counts what each operating point predicts against what is active.
class MeasureObserver final : public FfnObserver {
 public:
  MeasureObserver(LayerScorer& scorer, const std::vector<OperatingPoint>& points, int64_t d_ff,
                  int n_lanes);
  void OnFfn(const Lane& lane, const FfnObservation& observation) override;
  // Writes recall and density into the points it was made with, in their order. Returns the true
  // density.
  double Finish(std::vector<OperatingPoint>* points) const;

 private:
  struct Counts {
    int64_t n_tokens = 0;
    int64_t n_active = 0;
    std::vector<int64_t> n_predicted;  // per point
    std::vector<int64_t> n_hits;
    std::vector<float> scores;  // (d_ff) scratch
  };
  void CountToken(const float* h, Counts& counts) const;

  LayerScorer& scorer_;
  const std::vector<OperatingPoint>& points_;
  const int64_t d_ff_;
  std::vector<Counts> lanes_;
};

}  // namespace thermocline
