#include "profiler/synthetic/synth_predictor.h"

#include "profiler/predictors/predictor_build.h"
#include "profiler/synthetic/synth_profile.h"
#include "profiler/synthetic/synth_tokens.h"
#include "runtime/core/error.h"
#include "runtime/synth/synth_factors.h"
#include "runtime/synth/synth_random.h"

namespace thermocline {
namespace {

TokenWindows RandomWindows(RandomTokens& tokens, int64_t n_tokens, int64_t window_tokens) {
  TokenWindows out;
  while (out.n_tokens < n_tokens) {
    out.windows.push_back(tokens.Next(std::min(window_tokens, n_tokens - out.n_tokens)));
    out.n_tokens += static_cast<int64_t>(out.windows.back().size());
  }
  return out;
}

}  // namespace

PredictorFile BuildSynthPredictor(const std::string& model_path, const SynthOptions& options,
                                  const SynthPredictorOptions& predictor) {
  CHECK(options.gate_rank > 0);
  Engine engine(MeasuringEngine(model_path, options, predictor.n_threads, predictor.progress));
  // These are other tokens than the activity is checked with.
  RandomTokens tokens(MixBits(options.seed + 3), options.vocab_size);
  const int64_t n_tokens =
      predictor.n_tokens > 0 ? predictor.n_tokens : TokensToMeasure(engine.config());
  PredictorTexts texts;
  texts.choosing = RandomWindows(tokens, n_tokens, engine.context_tokens());
  texts.measuring = RandomWindows(tokens, n_tokens, engine.context_tokens());
  texts.corpus_hash = kSyntheticCorpus;
  PredictorOptions build;
  build.rank = options.gate_rank;
  build.dtype = predictor.dtype;
  build.progress = predictor.progress;
  build.known_factors = [&](int64_t layer) { return GateFactors(options, layer).Scaled(); };
  return BuildPredictor(engine, texts, build);
}

}  // namespace thermocline
