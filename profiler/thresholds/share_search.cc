#include "profiler/thresholds/share_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <string>

#include "profiler/thresholds/layer_runner.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

constexpr double kLargestStep = 0.25;  // of a small matrix
// Of layers' inputs that wait for their search.
constexpr int64_t kInputBytes = int64_t{256} << 20;

// The search within one layer, which `runner` has begun.
class LayerSearch {
 public:
  LayerSearch(const ModelConfig& config, LayerRunner& runner, int64_t layer)
      : runner_(runner),
        d_model_(static_cast<size_t>(config.d_model)),
        sizes_(MatrixSizes(config, layer)) {
    for (const int64_t size : sizes_) {
      all_ += static_cast<double>(size);
      largest_ = std::max(largest_, static_cast<double>(size));
    }
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
      runner_.Accept(best.matrix, now_);
      error_ = best.error;
      path.push_back({static_cast<float>(Share()), static_cast<float>(error_), now_});
      ++n_steps_;
      if (now_[best.matrix] < kMaxMatrixSparsity) {
        candidates_.emplace_back(best.matrix, Try(best.matrix));
      }
    }
    return path;
  }

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
    const double error = ErrorOf(runner_.Try(m, shares));
    const double weights = (shares[m] - now_[m]) * static_cast<double>(sizes_[m]);
    return {error, (error - error_) / weights, n_steps_};
  }

  double ErrorOf(const std::vector<float>& y) const {
    const std::vector<float>& dense = runner_.dense();
    const size_t d = d_model_;
    double sum = 0;
    int64_t n = 0;
    for (size_t at = kUncutPositions * d; at < y.size(); at += d, ++n) {
      double difference = 0;
      double square = 0;
      for (size_t i = at; i < at + d; ++i) {
        const double delta = static_cast<double>(y[i]) - dense[i];
        difference += delta * delta;
        square += static_cast<double>(dense[i]) * dense[i];
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

  LayerRunner& runner_;
  size_t d_model_;
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
  CHECK(executor.has_one_stream());
  const ModelConfig& config = engine.config();
  const auto n = static_cast<int64_t>(ids.size());
  const int n_threads = engine.model().n_threads();
  const int n_workers = static_cast<int>(std::min<int64_t>(n_threads, config.n_layers));
  std::vector<std::unique_ptr<LayerRunner>> runners;
  for (int i = 0; i < n_workers; ++i) {
    const int n_lanes = std::max(1, n_threads / n_workers);
    runners.push_back(std::make_unique<LayerRunner>(engine, *cuts, n, n_lanes));
  }
  const std::string what = fmt::format("{}: searching layers", ThresholdMethodName(method));
  const auto n_layers = static_cast<uint64_t>(config.n_layers);
  std::mutex reporting;
  uint64_t n_done = 0;
  Report(progress, what, 0, n_layers);
  const auto bytes = static_cast<int64_t>(ids.size() * sizeof(float)) * config.d_model;
  const int64_t at_once = std::max<int64_t>(n_workers, kInputBytes / bytes);
  std::vector<float> x(ids.size() * static_cast<size_t>(config.d_model));
  executor.set_mode(SparseMode::kDense);
  executor.Embed(ids, x.data());
  for (int64_t first = 0; first < config.n_layers; first += at_once) {
    const int64_t last = std::min(first + at_once, config.n_layers);
    std::vector<std::vector<float>> inputs;
    for (int64_t l = first; l < last; ++l) {
      ThrowIfInterrupted();
      inputs.push_back(x);
      executor.RunLayers(x.data(), n, 0, l, l + 1);
    }
    ParallelFor(last - first, 1, n_workers, [&](int worker, int64_t begin, int64_t end) {
      LayerRunner& runner = *runners[static_cast<size_t>(worker)];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t l = first + i;
        runner.Begin(l, method, inputs[static_cast<size_t>(i)]);
        cuts->mutable_thresholds()
            .layers[static_cast<size_t>(l)]
            .paths[static_cast<size_t>(method)] = LayerSearch(config, runner, l).Run();
        const std::lock_guard<std::mutex> lock(reporting);
        Report(progress, what, ++n_done, n_layers);
      }
    });
  }
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
