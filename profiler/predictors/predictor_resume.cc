#include "profiler/predictors/predictor_resume.h"

#include <fmt/format.h>

#include <filesystem>

#include "runtime/core/error.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

constexpr size_t kMaxShownBytes = 500;  // cut from the settings that a file claims

}  // namespace

std::string UnfinishedPath(const std::string& output_path) { return output_path + ".partial.gguf"; }

std::string BuildSettings(const OpenedModel& model, const PredictorTexts& texts,
                          const PredictorOptions& options) {
  std::string text = fmt::format(
      "model {}, tokens {} ({} to calibrate, {} to choose, {} to "
      "measure), {}",
      PlacementFingerprint(model.gguf()), texts.corpus_hash, texts.calibration.n_tokens,
      texts.choosing.n_tokens, texts.measuring.n_tokens, PredictorKindName(options.kind));
  if (options.kind != PredictorKind::kSign) {
    text += fmt::format(", rank {}, {}, seed {}", RankOf(model.config(), options),
                        DTypeName(options.dtype), options.seed);
  }
  if (options.kind == PredictorKind::kMlp) {
    text += fmt::format(", {} epochs, learning rate {}", options.max_epochs, options.learning_rate);
  }
  if (options.look_ahead) text += ", look-ahead";
  return text + fmt::format(", windows of {}, batches of {}", model.context_tokens(),
                            model.executor_options().max_tokens);
}

PredictorFile ReadUnfinished(const std::string& path, const std::string& settings) {
  if (!std::filesystem::exists(path)) return {};
  PredictorFile file = ReadPredictor(path);
  if (file.unfinished == settings) return file;
  throw Error({.path = path,
               .what = "layers of an earlier build, which did not finish, were built otherwise",
               .expected = settings,
               .found = file.unfinished.empty() ? "a finished predictor"
                                                : Printable(file.unfinished, kMaxShownBytes),
               .hint = "give the earlier options to go on with it, or remove this file to start "
                       "over"});
}

}  // namespace thermocline
