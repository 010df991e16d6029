// Which tokens a predictor is built from, and whether it can be built at all.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "predictor/sparse_mode.h"
#include "profiler/predictors/predictor_build.h"
#include "runtime/core/error.h"
#include "runtime/core/fnv1a.h"
#include "runtime/core/interrupt.h"
#include "runtime/model/families.h"

namespace thermocline {
namespace {

// The least tokens per column. Fewer leave a covariance of d_model columns, or thresholds of rarely
// active neurons, to chance.
constexpr int64_t kTokensPerColumn = 4;
constexpr int64_t kMinHeldoutTokens = 1024;
// The most tokens that thresholds are chosen with, since their scores lie in memory: 8 bytes per
// neuron each.
constexpr int64_t kMaxChoosingTokens = 8192;

void CheckLength(const Corpus& corpus, const OpenedModel& model, const PredictorOptions& options) {
  const int64_t calibration =
      options.kind == PredictorKind::kSign ? 0 : kTokensPerColumn * model.config().d_model;
  const double heldout = options.heldout_fraction;
  const double needed = std::max(static_cast<double>(kMinHeldoutTokens) / heldout,
                                 static_cast<double>(calibration) / (1 - heldout));
  // Windows are shared out whole, so that a part may get one less than its share.
  const int64_t windows = 4 * corpus.window_text_tokens();
  const auto needed_tokens =
      std::max(static_cast<int64_t>(std::ceil(needed)) + corpus.window_text_tokens(), windows);
  if (corpus.n_tokens() >= needed_tokens) return;
  throw Error({.path = options.text_path,
               .what = "the text is too short to build a predictor from",
               .expected = fmt::format("{} tokens or more", needed_tokens),
               .found = std::to_string(corpus.n_tokens()),
               .hint = "give a longer text, of the kind the model will be used for"});
}

void Add(TokenWindows& split, std::vector<int32_t> ids) {
  split.n_tokens += static_cast<int64_t>(ids.size());
  split.windows.push_back(std::move(ids));
}

}  // namespace

int64_t DefaultRank(const ModelConfig& config) {
  const int64_t widest = std::min(config.d_model, config.d_ff) / kRankUnit * kRankUnit;
  return std::clamp<int64_t>(config.d_model / 4 / kRankUnit * kRankUnit, kRankUnit,
                             std::max(widest, kRankUnit));
}

int64_t RankOf(const ModelConfig& config, const PredictorOptions& options) {
  return options.rank == 0 ? DefaultRank(config) : options.rank;
}

void CheckPredictorOptions(const OpenedModel& model, const PredictorOptions& options) {
  if (model.config().by_column) {
    throw Error({.path = model.gguf().path(),
                 .what = "predictors are built from gates that lie by row",
                 .expected = "the model that this one was packed from",
                 .found = "a model that is stored by column"});
  }
  const ModelConfig& config = model.config();
  if (!HasTrueZeros(config.activation)) {
    throw Error({.path = model.gguf().path(),
                 .what = "a predictor needs a model whose activation has true zeros",
                 .expected = "relu, reglu or relu_sqr",
                 .found = std::string(ActivationName(config.activation))});
  }
  if (options.kind == PredictorKind::kSign) {
    if (!options.look_ahead) return;
    throw Error({.what = "looking ahead needs a predictor with factors",
                 .expected = "svd or mlp",
                 .found = "sign, which compares a layer's gate with that layer's own input",
                 .settings = {{Setting::kLookAhead}}});
  }
  const int64_t rank = RankOf(config, options);
  const int64_t most = std::min(config.d_model, config.d_ff);
  if (rank < 1 || rank % kRankUnit != 0 || rank > most) {
    throw Error({.path = model.gguf().path(),
                 .what = std::string(SettingName(Setting::kPredictorRank)),
                 .expected = fmt::format("a multiple of {}, at most {}", kRankUnit,
                                         most / kRankUnit * kRankUnit),
                 .found = std::to_string(rank),
                 .settings = {{Setting::kPredictorRank}}});
  }
  if (options.dtype == DType::kQ8_0 && config.d_model % kQuantBlock != 0) {
    throw Error({.path = model.gguf().path(),
                 .what = "Q8_0 stores rows of whole blocks",
                 .expected = fmt::format("a d_model that is a multiple of {}", kQuantBlock),
                 .found = std::to_string(config.d_model),
                 .hint = "store the factors in F16",
                 .settings = {{Setting::kPredictorType, "F16"}}});
  }
}

PredictorTexts ReadPredictorTexts(const OpenedModel& model, const Tokenizer& tokenizer,
                                  const PredictorOptions& options) {
  CHECK(options.heldout_fraction > 0 && options.heldout_fraction < 1);
  CorpusOptions corpus_options;
  corpus_options.context_tokens = model.context_tokens();
  corpus_options.max_tokens = options.max_tokens;
  corpus_options.progress = options.progress;
  Corpus corpus(options.text_path, tokenizer, corpus_options);
  CheckLength(corpus, model, options);

  // Held-out windows are the end of the text, since what lies between calibration windows resembles
  // them.
  const int64_t n = corpus.n_windows();
  const auto wanted =
      static_cast<int64_t>(std::llround(options.heldout_fraction * static_cast<double>(n)));
  const int64_t n_calibration = n - std::clamp<int64_t>(wanted, 2, n - 1);
  PredictorTexts texts;
  Fnv1a hash;
  for (int64_t w = 0; w < n; ++w) {
    ThrowIfInterrupted();
    std::vector<int32_t> ids = corpus.NextWindow();
    for (const int32_t id : ids) hash.AddNumber(id);
    if (w < n_calibration) {
      Add(texts.calibration, std::move(ids));
      continue;
    }
    const bool room = texts.choosing.n_tokens + static_cast<int64_t>(ids.size()) <=
                      std::max(kMaxChoosingTokens, model.context_tokens());
    const bool choosing = (w - n_calibration) % 2 == 0 && room;
    Add(choosing ? texts.choosing : texts.measuring, std::move(ids));
  }
  texts.corpus_hash = hash.Text();
  return texts;
}

}  // namespace thermocline
