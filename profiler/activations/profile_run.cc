#include "profiler/activations/profile_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/core/fnv1a.h"
#include "runtime/core/interrupt.h"
#include "runtime/model/families.h"
#include "runtime/placement/magnitude_histogram.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

CorpusOptions MakeCorpusOptions(const OpenedModel& model, const ProfileOptions& options) {
  CorpusOptions corpus;
  corpus.context_tokens = model.context_tokens();
  corpus.max_tokens = options.max_tokens;
  corpus.progress = options.progress;
  return corpus;
}

void CheckNumbers(const std::string& model_path, const SplitActivity& split) {
  for (size_t l = 0; l < split.layers.size(); ++l) {
    for (const double mass : split.layers[l].mass) {
      if (std::isfinite(mass)) continue;
      throw Error({.path = model_path,
                   .what = fmt::format("layer {} computed values that are not finite numbers", l),
                   .hint = "the model is damaged, or its values are too large for its types"});
    }
  }
}

// How large h is, by layer. The first positions of a text, which are never cut, are not counted.
class HiddenMagnitudes final : public FfnObserver {
 public:
  explicit HiddenMagnitudes(int64_t n_layers)
      : layers_(static_cast<size_t>(n_layers)), positions_(static_cast<size_t>(n_layers)) {}

  void OnFfn(const Lane& lane, const FfnObservation& seen) override {
    const auto layer = static_cast<size_t>(seen.layer);
    if (lane.rank == 0) {
      const int64_t m = seen.slice->n_neurons;
      const int64_t first =
          std::clamp<int64_t>(kUncutPositions - positions_[layer], 0, seen.n_tokens);
      layers_[layer].Add(seen.h + first * m, (seen.n_tokens - first) * m);
      positions_[layer] += seen.n_tokens;
    }
    lane.Sync();
  }
  std::vector<double> Quantiles(double share) const {
    std::vector<double> quantiles;
    for (const MagnitudeHistogram& layer : layers_) quantiles.push_back(layer.Quantile(share));
    return quantiles;
  }

 private:
  std::vector<MagnitudeHistogram> layers_;
  std::vector<int64_t> positions_;  // (n_layers) of the next pass's first row
};

}  // namespace

ProfileTexts::ProfileTexts(const OpenedModel& model, const Tokenizer& tokenizer,
                           const ProfileOptions& options)
    : text_(options.text_path, tokenizer, MakeCorpusOptions(model, options)) {
  if (!options.heldout_path.empty()) {
    heldout_.emplace(options.heldout_path, tokenizer, MakeCorpusOptions(model, options));
    calibration_windows_ = text_.n_windows();
    heldout_windows_ = heldout_->n_windows();
    return;
  }
  CHECK(options.heldout_fraction > 0 && options.heldout_fraction < 1);
  const int64_t n = text_.n_windows();
  if (n < 2) {
    throw Error({.path = options.text_path,
                 .what = "the text is too short to hold a part of it out",
                 .expected = fmt::format("more than {} tokens, a window of the context",
                                         text_.window_text_tokens()),
                 .found = std::to_string(text_.n_tokens()),
                 .hint = "give a longer text, a smaller context, or another text to hold out",
                 .settings = {{Setting::kContextSize}, {Setting::kHeldoutText}}});
  }
  const auto wanted =
      static_cast<int64_t>(std::llround(options.heldout_fraction * static_cast<double>(n)));
  heldout_windows_ = std::clamp<int64_t>(wanted, 1, n - 1);
  calibration_windows_ = n - heldout_windows_;
}

int64_t ProfileTexts::calibration_tokens() const {
  return text_.TokensOfWindows(calibration_windows_);
}

int64_t ProfileTexts::heldout_tokens() const {
  if (heldout_) return heldout_->TokensOfWindows(heldout_windows_);
  return text_.TokensOfWindows(text_.n_windows()) - calibration_tokens();
}

std::vector<int32_t> ProfileTexts::NextHeldoutWindow() {
  return heldout_ ? heldout_->NextWindow() : text_.NextWindow();
}

ProfileRun::ProfileRun(Engine& engine, ProfileTexts& texts, const ProfileOptions& options)
    : engine_(engine),
      texts_(texts),
      progress_(options.progress),
      cut_share_(options.cut_share),
      orders_(ReadChannelOrders(engine.model().gguf(), engine.config())),
      counter_(engine.config(), ChannelNorms(engine.model(), orders_), orders_,
               options.activation_threshold) {
  RequireNoEncoder(engine.config(), engine.model().gguf().path(), "profiling");
  RequireEqualFfns(engine.config(), engine.model().gguf().path(), "profiling");
  stats_.model_fingerprint = PlacementFingerprint(engine.model().gguf());
  stats_.activation_threshold = options.activation_threshold;
  stats_.cut_share = options.cut_share;
  stats_.context_tokens = engine.context_tokens();
}

void ProfileRun::Calibrate(Watcher* watcher) {
  counter_.CountInto(&stats_.calibration, nullptr);
  if (engine_.model().options().watch_attention) counter_.SumSquaresInto(&stats_.input_squares);
  RunSplit(/*calibration=*/true, watcher, watcher);
}

void ProfileRun::HoldOut(const std::vector<int64_t>& lru_sizes, FfnObserver* also) {
  if (!lru_sizes.empty()) lru_.emplace(engine_.config().d_ff, lru_sizes);
  counter_.CountInto(&stats_.heldout, lru_ ? &*lru_ : nullptr);
  counter_.SumSquaresInto(nullptr);
  RunSplit(/*calibration=*/false, also, nullptr);
}

void ProfileRun::MeasureThresholds(const std::vector<int32_t>& ids) {
  HiddenMagnitudes magnitudes(engine_.config().n_layers);
  {
    const ScopedObserver watching(engine_.executor(), &magnitudes);
    engine_.Reset();
    engine_.Feed(ids);
  }
  counter_.set_thresholds(magnitudes.Quantiles(cut_share_));
}

void ProfileRun::RunSplit(bool calibration, FfnObserver* also, Watcher* told) {
  SplitActivity& split = calibration ? stats_.calibration : stats_.heldout;
  const std::string label = calibration ? "calibration tokens" : "held-out tokens";
  const int64_t n_windows = calibration ? texts_.calibration_windows() : texts_.heldout_windows();
  const int64_t n_tokens = calibration ? texts_.calibration_tokens() : texts_.heldout_tokens();
  ObserverPair both(&counter_, also);
  Fnv1a hash;
  for (int64_t w = 0; w < n_windows; ++w) {
    ThrowIfInterrupted();
    const std::vector<int32_t> ids =
        calibration ? texts_.NextCalibrationWindow() : texts_.NextHeldoutWindow();
    if (w == 0) first_windows_[calibration ? 0 : 1] = ids;
    if (w == 0 && calibration && cut_share_ > 0) MeasureThresholds(ids);
    const ScopedObserver watching(engine_.executor(), &both);
    if (told != nullptr) told->BeginText();
    engine_.Reset();
    engine_.Feed(ids);
    for (const int32_t id : ids) hash.AddNumber(id);
    split.n_tokens += static_cast<int64_t>(ids.size());
    Report(progress_, label, static_cast<uint64_t>(split.n_tokens),
           static_cast<uint64_t>(n_tokens));
  }
  split.corpus_hash = hash.Text();
  CheckNumbers(engine_.model().gguf().path(), split);
}

}  // namespace thermocline
