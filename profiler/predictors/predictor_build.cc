#include "profiler/predictors/predictor_build.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "profiler/activations/activation_counter.h"
#include "profiler/predictors/predictor_observers.h"
#include "profiler/predictors/predictor_resume.h"
#include "profiler/predictors/predictor_store.h"
#include "profiler/predictors/predictor_streams.h"
#include "profiler/predictors/predictor_train.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/model/families.h"
#include "runtime/placement/placement.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

// The ridge on the covariance, in units of its mean variance.
constexpr double kRelativeRidge = 1e-4;
// The recalls aimed at, closest around what is asked for most. What comes out is measured on other
// tokens.
constexpr double kRecalls[] = {0.80,  0.85, 0.90,  0.92, 0.94,  0.95, 0.955, 0.96,
                               0.965, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 0.999};

// Training of an mlp goes on while it lowers the density that this recall takes on some of the
// tokens that thresholds are chosen with.
constexpr double kEarlyStopRecall = 0.95;
constexpr int64_t kEarlyStopTokens = 2048;

constexpr int64_t kChunk = 16;  // neurons or tokens that one thread takes at a time

// What the calibration tokens tell of a layer.
struct Calibration {
  Calibration(int64_t d_model, bool looks_ahead) : inputs(d_model) {
    if (looks_ahead) ahead.emplace(d_model);
  }
  InputMoments inputs;                // moments of what the predictor reads
  std::optional<CrossMoments> ahead;  // moments of the layer's own inputs with those
  MlpSamples samples;                 // for mlp
};

class Builder {
 public:
  Builder(Engine& engine, const PredictorTexts& texts, const PredictorOptions& options,
          PredictorFile begun)
      : engine_(engine),
        config_(engine.config()),
        options_(options),
        n_threads_(engine.model().n_threads()),
        calibration_{&texts.calibration},
        choosing_{&texts.choosing},
        measuring_{&texts.measuring},
        streams_(engine, options.look_ahead, TokensTimesLayers(), options.progress),
        orders_(ReadChannelOrders(engine.model().gguf(), config_)) {
    file_.unfinished = BuildSettings(engine.model(), texts, options);
    file_.model_fingerprint = PlacementFingerprint(engine.model().gguf());
    file_.kind = options.kind;
    if (HasMatrices()) file_.rank = RankOf(config_, options);
    file_.look_ahead = options.look_ahead;
    file_.d_model = config_.d_model;
    file_.d_ff = config_.d_ff;
    file_.calibration_tokens = Calibrates() ? texts.calibration.n_tokens : 0;
    file_.heldout_tokens = texts.measuring.n_tokens;
    file_.corpus_hash = texts.corpus_hash;
    TakeOver(std::move(begun));
  }

  PredictorFile Build() {
    if (Calibrates()) streams_.Embed(calibration_);
    streams_.Embed(choosing_);
    streams_.Embed(measuring_);
    const auto n_begun = static_cast<int64_t>(file_.layers.size());
    for (int64_t layer = 0; layer < n_begun; ++layer) {
      if (Calibrates()) streams_.RunLayer(calibration_, layer, nullptr);
      streams_.RunLayer(choosing_, layer, nullptr);
      streams_.RunLayer(measuring_, layer, nullptr);
    }
    for (int64_t layer = n_begun; layer < config_.n_layers; ++layer) {
      std::vector<ChosenPoint> chosen;
      file_.layers.push_back(BuildLayer(layer, &chosen));
      if (options_.on_layer) options_.on_layer(file_, chosen);
    }
    file_.unfinished.clear();
    return std::move(file_);
  }

 private:
  bool HasMatrices() const { return options_.kind != PredictorKind::kSign; }
  bool Calibrates() const { return HasMatrices() && !options_.known_factors; }
  bool IsMlp() const { return options_.kind == PredictorKind::kMlp; }

  uint64_t TokensTimesLayers() const {
    const int64_t n_tokens = (Calibrates() ? calibration_.split->n_tokens : 0) +
                             choosing_.split->n_tokens + measuring_.split->n_tokens;
    return static_cast<uint64_t>(config_.n_layers * n_tokens);
  }

  // Takes over the finished layers. The file's settings say that it fits; since it is a file, its
  // shape is looked at, too.
  void TakeOver(PredictorFile begun) {
    if (begun.layers.empty()) return;
    const bool fits = begun.kind == file_.kind && begun.rank == file_.rank &&
                      begun.look_ahead == file_.look_ahead && begun.d_model == file_.d_model &&
                      begun.d_ff == file_.d_ff &&
                      begun.layers[0].predictor.points.size() == std::size(kRecalls) &&
                      static_cast<int64_t>(begun.layers.size()) <= config_.n_layers;
    if (!fits) {
      throw Error({.path = begun.path,
                   .what = "the finished layers of an earlier build do not fit the model",
                   .hint = "remove this file to start over"});
    }
    file_.layers = std::move(begun.layers);
    file_.mapping = std::move(begun.mapping);  // keeps the matrices of the layers taken over
  }

  StoredLayerPredictor BuildLayer(int64_t layer, std::vector<ChosenPoint>* chosen) {
    const FfnSlice& slice = engine_.weights().layers[static_cast<size_t>(layer)].slices.front();
    CHECK(slice.n_neurons == config_.d_ff);
    const PredictorInput input = PredictorInputOf(options_.look_ahead, layer);
    const bool looks_ahead = input == PredictorInput::kPreviousNormed;
    Calibration calibration(Calibrates() ? config_.d_model : 0, Calibrates() && looks_ahead);
    if (Calibrates()) {
      CalibrationObserver observer(calibration.inputs, IsMlp() ? &calibration.samples : nullptr);
      streams_.RunLayer(calibration_, layer, &observer,
                        looks_ahead ? &*calibration.ahead : nullptr);
    }
    HeldoutObserver heldout(DownNorms(slice.down, slice.down_layout), config_.d_model,
                            choosing_.split->n_tokens);
    streams_.RunLayer(choosing_, layer, &heldout);

    StoredLayerPredictor out;
    out.predictor.relu = IsMlp();
    out.predictor.input = input;
    std::optional<SignRows> rows;
    std::unique_ptr<LayerScorer> scorer;
    if (HasMatrices()) {
      StoreFactors(FactorsOf(layer, slice, calibration, heldout), file_.rank, options_.dtype, &out);
      scorer = MakeLowRankScorer(out.predictor, n_threads_);
    } else {
      rows.emplace(CpuKernels(), slice.gate, slice.gate_bias);
      ParallelFor(config_.d_ff, kChunk, n_threads_,
                  [&](int, int64_t begin, int64_t end) { rows->Pack(begin, end); });
      scorer = MakeSignScorer(*rows, n_threads_);
    }
    *chosen = options_.known_factors
                  ? ChooseMargins(slice, heldout, *scorer)
                  : ChooseThresholds(heldout, *scorer, heldout.n_tokens(), kRecalls);
    StorePoints(*chosen, HasMatrices(), &out);
    MeasureObserver measure(*scorer, out.predictor.points, config_.d_ff, n_threads_);
    streams_.RunLayer(measuring_, layer, &measure);
    out.true_density = static_cast<float>(measure.Finish(&out.predictor.points));
    if (HasMatrices() && !orders_.empty()) {
      OrderByChannel(orders_[static_cast<size_t>(layer)], &out);
    }
    return out;
  }

  LowRank FactorsOf(int64_t layer, const FfnSlice& slice, const Calibration& calibration,
                    const HeldoutObserver& heldout) {
    if (options_.known_factors) return options_.known_factors(layer);
    LowRank factors = FactorGate(layer, slice, calibration);
    return IsMlp() ? Train(layer, calibration.samples, factors, heldout) : factors;
  }

  // Factors the gate. For mlp the rank is halved, as it starts from these factors.
  LowRank FactorGate(int64_t layer, const FfnSlice& slice, const Calibration& calibration) const {
    // The covariance is about the mean: what the mean adds to a score is a constant of the neuron,
    // and so part of its threshold, and no rank is spent on it. The model's own gate bias is part
    // of the threshold in the same way.
    const std::vector<double> covariance = calibration.inputs.Covariance(kRelativeRidge);
    const auto finite = [](double value) { return std::isfinite(value); };
    if (!std::all_of(covariance.begin(), covariance.end(), finite)) {
      throw Error({.path = engine_.model().gguf().path(),
                   .what = fmt::format("layer {} computed values that are not finite", layer),
                   .hint = "the model is damaged, or its values are too large for its types"});
    }
    const LowRankOptions options{.rank = IsMlp() ? file_.rank / 2 : file_.rank,
                                 .seed = options_.seed};
    std::vector<float> gate = DequantizeRows(slice.gate);
    if (calibration.ahead) {
      gate = RegressOn(gate.data(), config_.d_ff, config_.d_model, calibration.ahead->Covariance(),
                       covariance);
    }
    return FactorInMetric(gate.data(), config_.d_ff, config_.d_model, covariance, options);
  }

  LowRank Train(int64_t layer, const MlpSamples& samples, const LowRank& half,
                const HeldoutObserver& heldout) {
    const MlpTraining training{
        .d_model = config_.d_model,
        .d_ff = config_.d_ff,
        .max_epochs = options_.max_epochs,
        .options = {.rank = file_.rank,
                    .seed = options_.seed,
                    .learning_rate = options_.learning_rate},
        .label = fmt::format("training layer {} of {} (batches)", layer + 1, config_.n_layers),
        .progress = options_.progress};
    const int64_t n_tokens = std::min(kEarlyStopTokens, heldout.n_tokens());
    return TrainMlp(n_threads_, samples, half, training, [&](const LowRank& weights) {
      StoredLayerPredictor stored;
      stored.predictor.relu = true;
      StoreFactors(weights, file_.rank, options_.dtype, &stored);
      const auto scorer = MakeLowRankScorer(stored.predictor, n_threads_);
      const double recall[] = {kEarlyStopRecall};
      return 1 - ChooseThresholds(heldout, *scorer, n_tokens, recall)[0].skipped;
    });
  }

  // Chooses thresholds on the first n held-out tokens.
  std::vector<ChosenPoint> ChooseThresholds(const HeldoutObserver& heldout, LayerScorer& scorer,
                                            int64_t n, std::span<const double> recalls) {
    std::vector<float> scores(static_cast<size_t>(n * config_.d_ff));
    ParallelFor(n, kChunk, n_threads_, [&](int thread, int64_t begin, int64_t end) {
      heldout.Score(scorer, thread, begin, end, scores.data());
    });
    const ScoredTokens tokens = heldout.Tokens(scores.data(), n);
    if (!HasMatrices()) return ChooseSharedPoints(tokens, recalls);
    std::vector<NeuronRaises> parts(static_cast<size_t>(CeilDiv(config_.d_ff, kChunk)));
    ParallelFor(config_.d_ff, kChunk, n_threads_, [&](int, int64_t begin, int64_t end) {
      parts[static_cast<size_t>(begin / kChunk)] = FindRaises(tokens, begin, end);
    });
    NeuronRaises all;
    for (const NeuronRaises& part : parts) {
      all.raises.insert(all.raises.end(), part.raises.begin(), part.raises.end());
      all.lowest.insert(all.lowest.end(), part.lowest.begin(), part.lowest.end());
    }
    return ChoosePoints(tokens, std::move(all), recalls);
  }

  // Chooses one margin for all neurons, in units of their gate rows' lengths. Scores are known up
  // to rounding, whose size goes with the length, so the chance that a neuron fires depends on its
  // score over that length alone.
  std::vector<ChosenPoint> ChooseMargins(const FfnSlice& slice, const HeldoutObserver& heldout,
                                         LayerScorer& scorer) {
    const auto d_ff = static_cast<size_t>(config_.d_ff);
    const auto lengths = RowNorms(slice.gate);
    const std::vector<float> none(d_ff, 0.0F);
    const float* biases = slice.gate_bias == nullptr ? none.data() : slice.gate_bias;
    std::vector<float> scores(static_cast<size_t>(heldout.n_tokens()) * d_ff);
    ParallelFor(heldout.n_tokens(), kChunk, n_threads_,
                [&](int thread, int64_t begin, int64_t end) {
                  heldout.Score(scorer, thread, begin, end, scores.data());
                  for (size_t i = static_cast<size_t>(begin) * d_ff;
                       i < static_cast<size_t>(end) * d_ff; ++i) {
                    scores[i] = (scores[i] + biases[i % d_ff]) / lengths[i % d_ff];
                  }
                });
    std::vector<ChosenPoint> points =
        ChooseSharedPoints(heldout.Tokens(scores.data(), heldout.n_tokens()), kRecalls);
    for (ChosenPoint& point : points) {
      for (size_t i = 0; i < d_ff; ++i) {
        float& threshold = point.predictor_thresholds[i];
        threshold = threshold * lengths[i] - biases[i];
      }
    }
    return points;
  }

  Engine& engine_;
  const ModelConfig& config_;
  const PredictorOptions& options_;
  int n_threads_;
  TokenStream calibration_;
  TokenStream choosing_;
  TokenStream measuring_;
  StreamRunner streams_;
  ChannelOrders orders_;
  PredictorFile file_;
};

}  // namespace

PredictorFile BuildPredictor(Engine& engine, const PredictorTexts& texts,
                             const PredictorOptions& options, PredictorFile begun) {
  CheckPredictorOptions(engine.model(), options);
  RequireNoEncoder(engine.config(), engine.model().gguf().path(), "building a predictor");
  RequireEqualFfns(engine.config(), engine.model().gguf().path(), "building a predictor");
  CHECK(!options.known_factors || (options.kind == PredictorKind::kSvd && !options.look_ahead));
  return Builder(engine, texts, options, std::move(begun)).Build();
}

}  // namespace thermocline
