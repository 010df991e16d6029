#include "profiler/drafts/draft_workshop.h"

#include <fmt/format.h>

#include <algorithm>

#include "profiler/activations/activation_counter.h"
#include "profiler/activations/corpus.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/model/families.h"

namespace thermocline {

void FitWindow(const ModelConfig& config, DraftWork* work) {
  constexpr int64_t kLeastWindow = 32;
  work->window_tokens = std::min(work->window_tokens, config.max_seq_len - work->max_depth);
  work->n_forks = std::min(work->n_forks, std::max<int64_t>(1, work->window_tokens / 2));
  if (work->window_tokens >= kLeastWindow) return;
  throw Error({.path = work->engine.model_path,
               .what = "the model's context is too short to measure drafts in",
               .expected = fmt::format("{} tokens or more", kLeastWindow + work->max_depth),
               .found = std::to_string(config.max_seq_len)});
}

DraftTexts ReadDraftTexts(OpenedModel& model, const DraftTextOptions& text, int64_t window_tokens,
                          const ProgressFn& progress) {
  CorpusOptions options;
  options.context_tokens = window_tokens;
  if (text.max_tokens > 0) options.max_tokens = text.skip_tokens + text.max_tokens;
  options.progress = progress;
  Corpus corpus(text.path, model.tokenizer(), options);
  DraftTexts windows;
  int64_t n_skipped = 0;
  for (int64_t w = 0; w < corpus.n_windows(); ++w) {
    std::vector<int32_t> window = corpus.NextWindow();
    const auto n = static_cast<int64_t>(window.size());
    if (n < window_tokens) break;
    if (n_skipped < text.skip_tokens) {
      n_skipped += n;
      continue;
    }
    windows.push_back(std::move(window));
  }
  if (!windows.empty()) return windows;
  throw Error({.path = text.path,
               .what = "the text is too short for a draft",
               .expected = fmt::format("more than {} tokens", text.skip_tokens + window_tokens),
               .found = std::to_string(corpus.n_tokens()),
               .hint = "give a longer text, of the kind the model will be used for"});
}

ProfileStats CountForDrafts(const DraftWork& work, const DraftTexts& calibration) {
  EngineOptions options = work.engine;
  options.sparse = "dense";
  options.fast_tier = FastTier::kCpu;
  options.may_split_layers = false;
  options.watch_attention = true;
  options.context_tokens = work.window_tokens;
  options.batch_tokens = work.window_tokens;
  Engine engine(options);
  RequireNoEncoder(engine.config(), options.model_path, "a draft of the hot neurons");
  RequireEqualFfns(engine.config(), options.model_path, "a draft of the hot neurons");
  const ChannelOrders orders = ReadChannelOrders(engine.model().gguf(), engine.config());
  ActivationCounter counter(engine.config(), ChannelNorms(engine.model(), orders), orders, 0);
  ProfileStats stats;
  stats.model_fingerprint = PlacementFingerprint(engine.model().gguf());
  counter.CountInto(&stats.calibration, nullptr);
  counter.SumSquaresInto(&stats.input_squares);
  const ScopedObserver watching(engine.executor(), &counter);
  for (size_t w = 0; w < calibration.size(); ++w) {
    ThrowIfInterrupted();
    Report(work.progress, "windows counted", w, calibration.size());
    engine.Reset();
    engine.Feed(calibration[w]);
    stats.calibration.n_tokens += static_cast<int64_t>(calibration[w].size());
  }
  return stats;
}

namespace {

std::unique_ptr<Engine> OpenOrdered(const DraftWork& work, const ProfileStats& stats) {
  EngineOptions options = work.engine;
  SetMeterOptions(work.window_tokens, work.n_forks, work.max_depth, &options);
  const GgufReader gguf = OpenModelFile(options.model_path);
  if (IsPacked(gguf)) {
    throw Error({.path = options.model_path,
                 .what = "drafts are made from the model that was packed",
                 .expected = "the model that this one was packed from",
                 .found = "a packed model"});
  }
  const ModelConfig config = ReadModelConfig(gguf, FindFamily(gguf));
  RequireEqualFfns(config, options.model_path, "a draft of the hot neurons");
  auto ordered = std::make_shared<DraftFile>(
      *OrderedDraft(config, PlacementFingerprint(gguf), RankNeurons(stats, work.ranking)));
  ordered->ranking = work.ranking;
  options.draft = std::move(ordered);
  return std::make_unique<Engine>(options);
}

}  // namespace

DraftWorkshop::DraftWorkshop(const DraftWork& work, const ProfileStats& stats,
                             const DraftTexts& calibration)
    : engine_(OpenOrdered(work, stats)),
      builder_(*engine_, stats, calibration, work.progress),
      n_forks_(work.n_forks) {}

}  // namespace thermocline
