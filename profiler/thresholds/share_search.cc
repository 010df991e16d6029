#include "profiler/thresholds/share_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/scoped_batch_cuts.h"

namespace thermocline {
namespace {

constexpr double kLargestStep = 0.25;  // of a small matrix

// The search within one layer.
class LayerSearch {
 public:
  LayerSearch(Engine& engine, ThresholdMethod method, int64_t layer, const std::vector<float>& x,
              ModelCuts* cuts)
      : engine_(engine),
        method_(method),
        layer_(layer),
        x_(x),
        cuts_(cuts),
        sizes_(MatrixSizes(engine.config(), layer)) {
    for (const int64_t size : sizes_) {
      all_ += static_cast<double>(size);
      largest_ = std::max(largest_, static_cast<double>(size));
    }
    y_ = Output(SparseMode::kDense);
  }

  std::vector<PathPoint> Run() {
    std::vector<PathPoint> path(1);
    for (size_t m = 0; m < kMatrices; ++m) {
      if (sizes_[m] > 0) candidates_.emplace_back(m, Try(m));
    }
    while (path.back().share < kMaxSparsity && !candidates_.empty()) {
      ThrowIfInterrupted();
      const Candidate best = TakeBest();
      now_[best.matrix] = NextShare(best.matrix);
      error_ = best.error;
      path.push_back({static_cast<float>(Share()), static_cast<float>(error_), now_});
      ++n_steps_;
      if (now_[best.matrix] < kMaxMatrixSparsity) {
        candidates_.emplace_back(best.matrix, Try(best.matrix));
      }
    }
    return path;
  }
  const std::vector<float>& output() const { return y_; }

 private:
  struct Trial {
    double error = 0;  // of the layer with it
    double cost = 0;   // what it adds, per weight skipped
    int64_t step = 0;  // when it was tried
  };
  struct Candidate {
    size_t matrix;
    double error;
    double cost;
    int64_t step;
    Candidate(size_t of, const Trial& trial)
        : matrix(of), error(trial.error), cost(trial.cost), step(trial.step) {}
  };

  float NextShare(size_t m) const {
    const double step =
        std::min(kSearchStep * largest_ / static_cast<double>(sizes_[m]), kLargestStep);
    return static_cast<float>(std::min(now_[m] + step, kMaxMatrixSparsity));
  }

  // The candidate that costs least, when it is tried in the state at hand.
  Candidate TakeBest() {
    while (true) {
      const auto best = std::ranges::min_element(candidates_, {}, &Candidate::cost);
      if (best->step == n_steps_) {
        const Candidate taken = *best;
        candidates_.erase(best);
        return taken;
      }
      *best = Candidate(best->matrix, Try(best->matrix));
    }
  }

  Trial Try(size_t m) {
    MatrixShares shares = now_;
    shares[m] = NextShare(m);
    cuts_->Set(layer_, method_, shares);
    const std::vector<float> y = Output(SparseMode::kThreshold);
    const double error = ErrorOf(y);
    const double weights = (shares[m] - now_[m]) * static_cast<double>(sizes_[m]);
    return {error, (error - error_) / weights, n_steps_};
  }

  std::vector<float> Output(SparseMode mode) {
    const int64_t n = static_cast<int64_t>(x_.size()) / engine_.config().d_model;
    std::vector<float> y = x_;
    engine_.executor().set_mode(mode);
    engine_.executor().RunLayers(y.data(), n, 0, layer_, layer_ + 1);
    return y;
  }

  double ErrorOf(const std::vector<float>& y) const {
    const auto d = static_cast<size_t>(engine_.config().d_model);
    double sum = 0;
    int64_t n = 0;
    for (size_t at = kUncutPositions * d; at < y.size(); at += d, ++n) {
      double difference = 0;
      double square = 0;
      for (size_t i = at; i < at + d; ++i) {
        const double delta = static_cast<double>(y[i]) - y_[i];
        difference += delta * delta;
        square += static_cast<double>(y_[i]) * y_[i];
      }
      sum += square > 0 ? difference / square : 0;
    }
    return n == 0 ? 0 : sum / static_cast<double>(n);
  }

  double Share() const {
    double skipped = 0;
    for (size_t m = 0; m < kMatrices; ++m) skipped += now_[m] * static_cast<double>(sizes_[m]);
    return skipped / all_;
  }

  Engine& engine_;
  ThresholdMethod method_;
  int64_t layer_;
  const std::vector<float>& x_;  // (n, d_model) the layer's input
  std::vector<float> y_;         // (n, d_model) its output, dense
  ModelCuts* cuts_;
  std::array<int64_t, kMatrices> sizes_;
  double all_ = 0;
  double largest_ = 0;
  MatrixShares now_{};
  double error_ = 0;
  int64_t n_steps_ = 0;
  std::vector<Candidate> candidates_;
};

// A stretch of a path's lower convex hull.
struct Segment {
  size_t layer;
  double weights;  // that are skipped in addition
  double cost;     // error added, per weight
};

std::vector<Segment> HullOf(const std::vector<PathPoint>& path, size_t layer,
                            double layer_weights) {
  std::vector<const PathPoint*> hull;
  const auto slope = [](const PathPoint* a, const PathPoint* b) {
    return b->share > a->share ? (static_cast<double>(b->error) - a->error) /
                                     (static_cast<double>(b->share) - a->share)
                               : std::numeric_limits<double>::infinity();
  };
  for (const PathPoint& point : path) {
    while (hull.size() >= 2 &&
           slope(hull[hull.size() - 2], hull.back()) >= slope(hull.back(), &point)) {
      hull.pop_back();
    }
    hull.push_back(&point);
  }
  std::vector<Segment> segments;
  for (size_t i = 1; i < hull.size(); ++i) {
    const double weights =
        (static_cast<double>(hull[i]->share) - hull[i - 1]->share) * layer_weights;
    segments.push_back({layer, weights, slope(hull[i - 1], hull[i]) / layer_weights});
  }
  return segments;
}

}  // namespace

void SearchShares(Engine& engine, std::span<const int32_t> ids, ThresholdMethod method,
                  ModelCuts* cuts, const ProgressFn& progress) {
  Executor& executor = engine.executor();
  CHECK(executor.has_one_stream() && executor.cuts() == cuts->cuts());
  const ScopedBatchCuts cutting(executor.cuts());
  const ModelConfig& config = engine.config();
  cuts->cuts()->ffn_mode = SparseMode::kThreshold;
  std::vector<float> x(ids.size() * static_cast<size_t>(config.d_model));
  executor.Embed(ids, x.data());
  for (int64_t l = 0; l < config.n_layers; ++l) {
    Report(progress, fmt::format("{}: searching layers", ThresholdMethodName(method)),
           static_cast<uint64_t>(l), static_cast<uint64_t>(config.n_layers));
    LayerSearch search(engine, method, l, x, cuts);
    cuts->mutable_thresholds().layers[static_cast<size_t>(l)].paths[static_cast<size_t>(method)] =
        search.Run();
    x = search.output();
  }
  executor.set_mode(SparseMode::kDense);
}

std::vector<float> SplitOverLayers(const ModelThresholds& thresholds, size_t method,
                                   const ModelConfig& config) {
  const size_t n_layers = thresholds.layers.size();
  std::vector<double> weights(n_layers);
  std::vector<Segment> segments;
  double all = 0;
  for (size_t l = 0; l < n_layers; ++l) {
    for (const int64_t size : MatrixSizes(config, static_cast<int64_t>(l))) {
      weights[l] += static_cast<double>(size);
    }
    all += weights[l];
    const auto own = HullOf(thresholds.layers[l].paths[method], l, weights[l]);
    segments.insert(segments.end(), own.begin(), own.end());
  }
  // Segments of one layer have rising costs, so they stay in their order.
  std::ranges::stable_sort(segments, {}, &Segment::cost);
  std::vector<float> shares(kShareTargets * n_layers);
  for (size_t target = 0; target < kShareTargets; ++target) {
    double left = ShareTarget(target) * all;
    std::vector<double> skipped(n_layers);
    for (const Segment& segment : segments) {
      const double taken = std::min(left, segment.weights);
      skipped[segment.layer] += taken;
      left -= taken;
    }
    for (size_t l = 0; l < n_layers; ++l) {
      shares[target * n_layers + l] = static_cast<float>(std::min(1.0, skipped[l] / weights[l]));
    }
  }
  return shares;
}

}  // namespace thermocline
