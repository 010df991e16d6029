#include "profiler/predictor_build.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "predictor/low_rank.h"
#include "profiler/activation_counter.h"
#include "profiler/place.h"
#include "profiler/predictor_observers.h"
#include "profiler/predictor_train.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

// Of the covariance, in units of its mean variance.
constexpr double kRelativeRidge = 1e-4;
// Recalls aimed at, closest around what is asked for most; what comes out is measured on other
// tokens.
constexpr double kRecalls[] = {0.80,  0.85, 0.90,  0.92, 0.94,  0.95, 0.955, 0.96,
                               0.965, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 0.999};

// mlp: training goes on while it lowers the density that this recall takes on some of the tokens
// that thresholds are chosen with.
constexpr double kEarlyStopRecall = 0.95;
constexpr int64_t kEarlyStopTokens = 2048;

// The residual streams of a split's tokens, on their way through the layers.
struct Stream {
  const TokenWindows* split = nullptr;
  std::vector<float> x = {};  // (n_tokens, d_model)
};

std::vector<float> DequantizeRows(const TensorView& w) {
  std::vector<float> out(static_cast<size_t>(w.rows * w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    CpuKernels().dequantize_f32(w.dtype, w.row(r), 0, w.cols, out.data() + r * w.cols);
  }
  return out;
}

std::vector<std::byte> QuantizeRows(const std::vector<float>& w, int64_t cols, DType dtype) {
  const int64_t rows = static_cast<int64_t>(w.size()) / cols;
  const int64_t row_bytes = RowBytes(dtype, cols);
  std::vector<std::byte> out(static_cast<size_t>(rows * row_bytes));
  for (int64_t r = 0; r < rows; ++r) {
    QuantizeRow(dtype, w.data() + r * cols, cols, out.data() + r * row_bytes);
  }
  return out;
}

class Builder {
 public:
  Builder(Engine& engine, const PredictorTexts& texts, const PredictorOptions& options)
      : engine_(engine),
        config_(engine.config()),
        options_(options),
        team_(engine.model().n_threads()),
        calibration_{&texts.calibration},
        choosing_{&texts.choosing},
        measuring_{&texts.measuring} {
    file_.model_fingerprint = PlacementFingerprint(engine.model().gguf());
    file_.kind = options.kind;
    if (HasMatrices()) file_.rank = options.rank == 0 ? DefaultRank(config_) : options.rank;
    file_.d_model = config_.d_model;
    file_.d_ff = config_.d_ff;
    file_.calibration_tokens = HasMatrices() ? texts.calibration.n_tokens : 0;
    file_.heldout_tokens = texts.measuring.n_tokens;
    file_.corpus_hash = texts.corpus_hash;
    orders_ = ReadChannelOrders(engine.model().gguf(), config_);
    total_ = static_cast<uint64_t>(config_.n_layers) *
             static_cast<uint64_t>(file_.calibration_tokens + texts.choosing.n_tokens +
                                   texts.measuring.n_tokens);
  }

  PredictorFile Build() {
    if (HasMatrices()) Embed(calibration_);
    Embed(choosing_);
    Embed(measuring_);
    for (int64_t layer = 0; layer < config_.n_layers; ++layer) {
      file_.layers.push_back(BuildLayer(layer));
    }
    return std::move(file_);
  }

 private:
  bool HasMatrices() const { return options_.kind != PredictorKind::kSign; }
  bool IsMlp() const { return options_.kind == PredictorKind::kMlp; }

  template <typename Body>
  void ForChunks(Stream& stream, const Body& body) {
    const int64_t batch = engine_.model().executor_options().max_tokens;
    int64_t at = 0;
    for (const std::vector<int32_t>& window : stream.split->windows) {
      const auto n_window = static_cast<int64_t>(window.size());
      for (int64_t first = 0; first < n_window; first += batch) {
        ThrowIfInterrupted();
        const int64_t n = std::min(batch, n_window - first);
        body(std::span(window).subspan(static_cast<size_t>(first), static_cast<size_t>(n)), first,
             stream.x.data() + (at + first) * config_.d_model);
      }
      at += n_window;
    }
  }

  void Embed(Stream& stream) {
    stream.x.resize(static_cast<size_t>(stream.split->n_tokens * config_.d_model));
    ForChunks(stream, [&](std::span<const int32_t> ids, int64_t /*first*/, float* x) {
      engine_.executor().Embed(ids, x);
    });
  }

  void RunLayer(Stream& stream, int64_t layer, FfnObserver* observer) {
    const ScopedObserver watching(engine_.executor(), observer);
    ForChunks(stream, [&](std::span<const int32_t> ids, int64_t first, float* x) {
      const auto n = static_cast<int64_t>(ids.size());
      engine_.executor().RunLayers(x, n, first, layer, layer + 1);
      done_ += static_cast<uint64_t>(n);
      Report(options_.progress, "tokens through layers", done_, total_);
    });
  }

  // Where every one of `n` things is independent of the others.
  template <typename Body>
  void InParallel(int64_t n, const Body& body) {
    team_.Run([&](int thread) {
      const auto [begin, end] = Lane{thread, team_.n_threads()}.Split(n, 16);
      body(thread, begin, end);
    });
  }

  StoredLayerPredictor BuildLayer(int64_t layer) {
    const FfnSlice& slice = engine_.weights().layers[static_cast<size_t>(layer)].hot;
    CHECK(slice.n_neurons == config_.d_ff);
    InputMoments moments(HasMatrices() ? config_.d_model : 0);
    MlpSamples samples;
    if (HasMatrices()) {
      CalibrationObserver observer(moments, IsMlp() ? &samples : nullptr);
      RunLayer(calibration_, layer, &observer);
    }
    HeldoutObserver heldout(DownNorms(slice), config_.d_model, choosing_.split->n_tokens);
    RunLayer(choosing_, layer, &heldout);

    StoredLayerPredictor out;
    std::optional<SignRows> rows;
    std::unique_ptr<LayerScorer> scorer;
    if (HasMatrices()) {
      LowRank factors = FactorGate(layer, slice, moments);
      if (IsMlp()) factors = Train(layer, samples, factors, heldout);
      Store(factors, &out);
      scorer = MakeLowRankScorer(out.predictor, team_.n_threads());
    } else {
      rows.emplace(CpuKernels(), slice.gate, slice.gate_bias);
      InParallel(config_.d_ff,
                 [&](int /*thread*/, int64_t begin, int64_t end) { rows->Pack(begin, end); });
      scorer = MakeSignScorer(*rows, team_.n_threads());
    }
    SetPoints(ChooseThresholds(heldout, *scorer, heldout.n_tokens(), kRecalls), &out);
    MeasureObserver measure(*scorer, out.predictor.points, config_.d_ff, team_.n_threads());
    RunLayer(measuring_, layer, &measure);
    out.true_density = static_cast<float>(measure.Finish(&out.predictor.points));
    if (HasMatrices()) OrderByChannel(layer, &out);
    return out;
  }

  // Of half the rank for mlp, which starts from it.
  LowRank FactorGate(int64_t layer, const FfnSlice& slice, const InputMoments& moments) const {
    // About the mean: what the mean adds to a score is a constant of the neuron, and so part of its
    // threshold; no rank is spent on it. The same goes for the model's own gate bias.
    const std::vector<double> covariance = moments.Covariance(kRelativeRidge);
    const auto finite = [](double value) { return std::isfinite(value); };
    if (!std::all_of(covariance.begin(), covariance.end(), finite)) {
      throw Error({.path = engine_.model().gguf().path(),
                   .what = fmt::format("layer {} computed values that are not finite", layer),
                   .hint = "the model is damaged, or its values are too large for its types"});
    }
    const LowRankOptions options{.rank = IsMlp() ? file_.rank / 2 : file_.rank,
                                 .seed = options_.seed};
    return FactorInMetric(DequantizeRows(slice.gate).data(), config_.d_ff, config_.d_model,
                          covariance, options);
  }

  LowRank Train(int64_t layer, const MlpSamples& samples, const LowRank& half,
                const HeldoutObserver& heldout) {
    const MlpTraining training{
        .d_model = config_.d_model,
        .d_ff = config_.d_ff,
        .max_epochs = options_.max_epochs,
        .options = {.rank = file_.rank, .seed = options_.seed},
        .label = fmt::format("training layer {} of {} (batches)", layer + 1, config_.n_layers),
        .progress = options_.progress};
    const int64_t n_tokens = std::min(kEarlyStopTokens, heldout.n_tokens());
    return TrainMlp(team_, samples, half, training, [&](const LowRank& weights) {
      StoredLayerPredictor stored;
      Store(weights, &stored);
      const auto scorer = MakeLowRankScorer(stored.predictor, team_.n_threads());
      const double recall[] = {kEarlyStopRecall};
      return 1 - ChooseThresholds(heldout, *scorer, n_tokens, recall)[0].skipped;
    });
  }

  void Store(const LowRank& factors, StoredLayerPredictor* out) const {
    out->in_bytes = QuantizeRows(factors.in_proj, config_.d_model, options_.dtype);
    out->out_bytes = QuantizeRows(factors.out_proj, file_.rank, options_.dtype);
    out->predictor.relu = IsMlp();
    out->predictor.in_proj =
        DenseView(out->in_bytes.data(), options_.dtype, file_.rank, config_.d_model);
    out->predictor.out_proj =
        DenseView(out->out_bytes.data(), options_.dtype, config_.d_ff, file_.rank);
  }

  // From the first n held-out tokens.
  std::vector<ChosenPoint> ChooseThresholds(const HeldoutObserver& heldout, LayerScorer& scorer,
                                            int64_t n, std::span<const double> recalls) {
    std::vector<float> scores(static_cast<size_t>(n * config_.d_ff));
    InParallel(n, [&](int thread, int64_t begin, int64_t end) {
      heldout.Score(scorer, thread, begin, end, scores.data());
    });
    const ScoredTokens tokens = heldout.Tokens(scores.data(), n);
    if (!HasMatrices()) return ChooseSharedPoints(tokens, recalls);
    std::vector<NeuronRaises> parts(static_cast<size_t>(team_.n_threads()));
    InParallel(config_.d_ff, [&](int thread, int64_t begin, int64_t end) {
      parts[static_cast<size_t>(thread)] = FindRaises(tokens, begin, end);
    });
    NeuronRaises all;
    for (const NeuronRaises& part : parts) {
      all.raises.insert(all.raises.end(), part.raises.begin(), part.raises.end());
      all.lowest.insert(all.lowest.end(), part.lowest.begin(), part.lowest.end());
    }
    return ChoosePoints(tokens, std::move(all), recalls);
  }

  void SetPoints(const std::vector<ChosenPoint>& chosen, StoredLayerPredictor* out) const {
    const auto d_ff = static_cast<size_t>(config_.d_ff);
    out->predictor.points.resize(chosen.size());
    if (HasMatrices()) out->biases.resize(chosen.size() * d_ff);
    for (size_t p = 0; p < chosen.size(); ++p) {
      OperatingPoint& point = out->predictor.points[p];
      if (!HasMatrices()) {
        point.predictor_threshold = chosen[p].predictor_thresholds[0];
        continue;
      }
      float* bias = out->biases.data() + p * d_ff;
      for (size_t i = 0; i < d_ff; ++i) bias[i] = -chosen[p].predictor_thresholds[i];
      point.bias = bias;
    }
  }

  // Files count neurons by channel; a packed model's rows lie in another order.
  void OrderByChannel(int64_t layer, StoredLayerPredictor* out) const {
    if (orders_.empty()) return;
    const std::vector<int32_t>& order = orders_[static_cast<size_t>(layer)];
    const auto d_ff = static_cast<size_t>(config_.d_ff);
    const auto row_bytes = static_cast<std::ptrdiff_t>(RowBytes(options_.dtype, file_.rank));
    const std::vector<std::byte> rows = out->out_bytes;
    const std::vector<float> biases = out->biases;
    for (size_t i = 0; i < d_ff; ++i) {
      const auto channel = static_cast<size_t>(order[i]);
      std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(i) * row_bytes, row_bytes,
                  out->out_bytes.begin() + static_cast<std::ptrdiff_t>(channel) * row_bytes);
      for (size_t p = 0; p < out->predictor.points.size(); ++p) {
        out->biases[p * d_ff + channel] = biases[p * d_ff + i];
      }
    }
  }

  Engine& engine_;
  const ModelConfig& config_;
  const PredictorOptions& options_;
  ThreadTeam team_;
  Stream calibration_;
  Stream choosing_;
  Stream measuring_;
  ChannelOrders orders_;
  PredictorFile file_;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

}  // namespace

PredictorFile BuildPredictor(Engine& engine, const PredictorTexts& texts,
                             const PredictorOptions& options) {
  CheckPredictorOptions(engine.model(), options);
  return Builder(engine, texts, options).Build();
}

}  // namespace thermocline
