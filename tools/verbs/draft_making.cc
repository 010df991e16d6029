#include "tools/verbs/draft_making.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "profiler/drafts/draft_choice.h"
#include "profiler/drafts/draft_workshop.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "tools/reports/draft_report.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"

namespace thermocline {
namespace {

constexpr const char* kAutoDraft = "auto";
// Of the texts that the model writes, behind each token of which the draft does, for the plan.
constexpr int64_t kChainTexts = 6;
constexpr int64_t kChainPositions = 96;
constexpr int64_t kChainDepth = 12;

std::vector<DraftRanking> RankingsOf(const std::string& name) {
  if (name == kAutoDraft) {
    return {DraftRanking::kMass, DraftRanking::kFrequency, DraftRanking::kAcceptance};
  }
  for (const DraftRanking ranking :
       {DraftRanking::kFrequency, DraftRanking::kMass, DraftRanking::kAcceptance}) {
    if (name == DraftRankingName(ranking)) return {ranking};
  }
  FailUsage("profile", fmt::format("--draft-ranking: '{}' is none of auto, frequency, mass, "
                                   "acceptance",
                                   Printable(name)));
}

std::vector<StandInKind> StandInsOf(const std::string& name, int64_t d_model) {
  if (name == kAutoDraft) return UsualStandIns(d_model);
  if (const auto kind = ParseStandIn(name)) return {*kind};
  FailUsage("profile", fmt::format("--draft-stand-in: '{}' is none of auto, none, bias, rank:R, "
                                   "2bit, 3bit, 4bit, mixed, copy",
                                   Printable(name)));
}

// The best draft so far.
struct BestDraft {
  std::optional<MeasuredDraft> measured;
  DraftFile file;

  void Take(const MeasuredDraft& tried, DraftFile draft, DraftRanking ranking) {
    const bool better = !measured || tried.acceptance.sampled > measured->acceptance.sampled;
    if (!better) return;
    draft.ranking = ranking;
    measured = tried;
    file = std::move(draft);
  }
};

// Tries stand-ins with neurons ranked in one way, and returns a table of them.
std::string TryRanking(DraftWorkshop& shop, DraftMeter& meter, const DraftMakingArgs& args,
                       const std::vector<StandInKind>& kinds, DraftRanking ranking,
                       const ProgressFn& progress, BestDraft* best) {
  LayerShares shares;
  if (ranking == DraftRanking::kAcceptance) {
    shares = SharesByAcceptance(shop.builder(), meter, args.share, progress);
  }
  std::vector<MeasuredDraft> tried;
  for (const StandInKind& kind : kinds) {
    const auto recipe = MakeRecipe(shop.builder(), kind, args.share, shares);
    if (!recipe) continue;
    DraftFile draft;
    tried.push_back(MakeAndMeasure(shop.builder(), meter, kind, args.share, *recipe, &draft));
    best->Take(tried.back(), std::move(draft), ranking);
  }
  std::ranges::stable_sort(tried, [](const MeasuredDraft& a, const MeasuredDraft& b) {
    return a.acceptance.sampled > b.acceptance.sampled;
  });
  return DraftCandidates(tried, std::string(DraftRankingName(ranking)));
}

}  // namespace

void AddDraftMaking(CLI::App& verb, DraftMakingArgs* args) {
  CLI::Option* const draft =
      verb.add_option("--draft", args->path,
                      "Also make a draft of the hot neurons (.draft.gguf), for `run --draft hot`")
          ->type_name("FILE");
  AddShareOption(verb, "--draft-share", &args->share,
                 "Bytes that a drafted token reads of the neurons, as a share of what all take "
                 "(default 0.5)")
      ->needs(draft);
  verb.add_option("--draft-stand-in", args->stand_in,
                  "For neurons that are not hot: none, bias, rank:R, 2bit, 3bit, 4bit, mixed, copy "
                  "or auto (default)")
      ->type_name("KIND")
      ->needs(draft);
  verb.add_option("--draft-ranking", args->ranking,
                  "Which neurons are hot: by frequency, mass, acceptance (mass, and layers by what "
                  "they matter) or auto (default)")
      ->type_name("WHAT")
      ->needs(draft);
  AddNumberOption(verb, "--draft-tokens", &args->tokens, {.least = 256, .most = kMaxTokensFlag},
                  fmt::format("Tokens that maps are fitted to (default {})", args->tokens))
      ->needs(draft);
  AddNumberOption(verb, "--draft-heldout-tokens", &args->heldout_tokens,
                  {.least = 256, .most = kMaxTokensFlag},
                  fmt::format("Held-out tokens, of which half are drafted to measure (default {})",
                              args->heldout_tokens))
      ->needs(draft);
}

void CheckDraftMaking(const DraftMakingArgs& args, std::vector<std::string> inputs) {
  if (args.path.empty()) return;
  RankingsOf(args.ranking);
  StandInsOf(args.stand_in, 1);
  CheckOutputPath(args.path, inputs);
}

std::string MakeDraft(const DraftMakingArgs& args, const EngineOptions& engine,
                      const ProfileOptions& profile, const ProfileStats& stats) {
  if (args.path.empty()) return "";
  DraftWork work;
  work.engine.model_path = engine.model_path;
  work.engine.n_threads = engine.n_threads;
  work.engine.pinning = engine.pinning;
  work.progress = profile.progress;
  work.max_depth = kChainDepth + 1;
  OpenedModel model(work.engine);
  FitWindow(model.config(), &work);
  const auto read = [&](const std::string& path, int64_t n, int64_t skip) {
    return ReadDraftTexts(model, {.path = path, .max_tokens = n, .skip_tokens = skip},
                          work.window_tokens, work.progress);
  };
  const DraftTexts calibration =
      read(profile.text_path, std::min(args.tokens, stats.calibration.n_tokens), 0);
  // What the profile held out.
  const bool apart = !profile.heldout_path.empty();
  const DraftTexts heldout =
      apart ? read(profile.heldout_path, args.heldout_tokens, 0)
            : read(profile.text_path, args.heldout_tokens, stats.calibration.n_tokens);
  const std::vector<StandInKind> kinds = StandInsOf(args.stand_in, model.config().d_model);
  std::string text;
  BestDraft best;
  std::optional<DraftWorkshop> shop;
  bool by_mass = false;
  for (const DraftRanking ranking : RankingsOf(args.ranking)) {
    // By mass and by acceptance neurons have one order within a layer.
    const bool masses = ranking != DraftRanking::kFrequency;
    if (!shop || by_mass != masses) {
      shop.reset();
      work.ranking = masses ? DraftRanking::kMass : DraftRanking::kFrequency;
      shop.emplace(work, stats, calibration);
    }
    by_mass = masses;
    DraftMeter meter = shop->Meter(heldout);
    text += TryRanking(*shop, meter, args, kinds, ranking, work.progress, &best) + "\n";
  }
  if (!best.measured) {
    throw Error({.path = args.path,
                 .what = "no draft fits the share of the neurons' bytes",
                 .found = fmt::format("{}", args.share),
                 .hint = "allow more bytes, or another stand-in"});
  }
  const bool best_by_mass = best.file.ranking != DraftRanking::kFrequency;
  if (by_mass != best_by_mass) {
    shop.reset();
    work.ranking = best_by_mass ? DraftRanking::kMass : DraftRanking::kFrequency;
    shop.emplace(work, stats, calibration);
  }
  best.file.chains = shop->Meter(heldout).MeasureChains(
      shop->builder().Run(best.file), kChainTexts,
      std::min(kChainPositions, work.window_tokens / 2), kChainDepth);
  best.file.corpus_hash = stats.calibration.corpus_hash;
  WriteDraft(args.path, best.file);
  ClearStderrProgress();
  return text + fmt::format("draft: {} ({}, neurons ranked by {}, {:.1f} % hot, {} of its own)\n",
                            args.path, best.measured->kind.Name(),
                            DraftRankingName(best.file.ranking), 100 * best.measured->hot_share,
                            FormatBytes(best.measured->own_bytes));
}

}  // namespace thermocline
