// thermocline drafts: what drafts of the hot neurons are accepted with, by what they are made up
// of.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "profiler/activations/profile_file.h"
#include "profiler/drafts/draft_choice.h"
#include "profiler/drafts/draft_workshop.h"
#include "runtime/core/error.h"
#include "runtime/model/families.h"
#include "tools/reports/draft_report.h"
#include "tools/reports/plan_table.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kDraftsDetails =
    R"(Makes drafts of a model from a text and measures, on other texts, how likely their tokens are to be
accepted by the whole model: for each share of the neurons' bytes (--shares) and each stand-in for the
neurons that are not hot (--stand-ins), all at equal bytes.

  none      they are left out
  bias      the mean of what they add
  rank:R    a map of rank R from the FFN's input, fitted to what the draft feeds it (in Q8_0)
  2bit 3bit 4bit  the neurons themselves in fewer bits
  mixed     3 bits for the hotter ones, 2 for the others
  copy      all neurons, attention and the head in 4 bits; nothing is hot, whatever the share

--by hot reads --shares as shares of the neurons that are hot, whatever the rest takes. accepted: the mean
of sum min(p, q) over the held-out positions, the chance that rejection sampling takes a token drawn from
the draft. same best: how often both rank the same token first. Each position has the whole model's keys
and values of all before it.

--depth N also drafts chains and trees of N tokens with --depth-stand-in at the largest share and says how
many are accepted, of likeliest tokens and of drawn ones. A tree has up to three tokens behind each.

Example:
  thermocline drafts -m model.gguf -f corpus.txt --heldout other.txt --shares 0.2,0.35,0.5,0.7,0.9)";

struct DraftsArgs {
  EngineOptions engine;
  std::string text_path;
  std::vector<std::string> heldout_paths;
  std::string shares = "0.2,0.35,0.5,0.7,0.9";
  std::string stand_ins;
  std::string by = "bytes";
  std::string ranking = "mass";
  std::string depth_stand_ins = "copy,4bit";
  std::string report_path;
  int64_t tokens = 6144;
  int64_t heldout_tokens = 2048;
  int64_t depth = 0;
  int64_t stride = 16;
  uint64_t seed = 1;
};

std::vector<std::string> ListOf(const std::string& text) {
  std::vector<std::string> items;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) items.push_back(item);
  return items;
}

std::vector<double> SharesOf(const std::string& text) {
  std::vector<double> shares;
  for (const std::string& item : ListOf(text)) {
    char* end = nullptr;
    const double share = std::strtod(item.c_str(), &end);
    if (item.empty() || *end != '\0' || !(share >= 0) || share > 1) {
      FailUsage("drafts",
                fmt::format("--shares: '{}' is not a share from 0 to 1", Printable(item)));
    }
    shares.push_back(share);
  }
  return shares;
}

std::vector<StandInKind> ParsedStandIns(const std::string& flag, const std::string& text) {
  std::vector<StandInKind> kinds;
  for (const std::string& item : ListOf(text)) {
    const auto kind = ParseStandIn(item);
    if (!kind) {
      FailUsage("drafts", fmt::format("{}: '{}' is none of none, bias, rank:R, 2bit, 3bit, 4bit, "
                                      "mixed, copy",
                                      flag, Printable(item)));
    }
    kinds.push_back(*kind);
  }
  return kinds;
}

DraftRanking ParsedRanking(const std::string& name) {
  if (name == "mass") return DraftRanking::kMass;
  if (name == "frequency") return DraftRanking::kFrequency;
  FailUsage("drafts",
            fmt::format("--ranking: '{}' is neither mass nor frequency", Printable(name)));
}

// The same bytes for every kind, or the same hot neurons.
std::optional<DraftRecipe> AskedRecipe(const DraftsArgs& args, const DraftBuilder& builder,
                                       const StandInKind& kind, double share) {
  return args.by == "hot" ? MakeRecipeOfHot(builder, kind, share)
                          : MakeRecipe(builder, kind, share);
}

void RunDrafts(DraftsArgs& args) {
  if (args.by != "hot" && args.by != "bytes") {
    FailUsage("drafts", "--by takes bytes or hot");
  }
  const std::vector<double> shares = SharesOf(args.shares);
  std::vector<StandInKind> kinds = ParsedStandIns("--stand-ins", args.stand_ins);
  std::vector<std::string> inputs = {args.engine.model_path, args.text_path};
  inputs.insert(inputs.end(), args.heldout_paths.begin(), args.heldout_paths.end());
  if (!args.report_path.empty()) CheckOutputPath(args.report_path, inputs);
  DraftWork work;
  work.engine = args.engine;
  work.ranking = ParsedRanking(args.ranking);
  work.max_depth = args.depth == 0 ? 0 : args.depth + 1;
  work.progress = StderrProgress();
  OpenedModel model(args.engine);
  FitWindow(model.config(), &work);
  if (kinds.empty()) kinds = UsualStandIns(model.config().d_model);
  const auto read = [&](const std::string& path, int64_t n) {
    return ReadDraftTexts(model, {.path = path, .max_tokens = n}, work.window_tokens,
                          work.progress);
  };
  const DraftTexts calibration = read(args.text_path, args.tokens);
  std::vector<DraftTexts> heldout;
  for (const std::string& path : args.heldout_paths) {
    heldout.push_back(read(path, args.heldout_tokens));
  }
  const ProfileStats stats = CountForDrafts(work, calibration);
  DraftWorkshop shop(work, stats, calibration);
  ClearStderrProgress();
  WriteOutput(fmt::format(
      "model: {}, {} layers of {} neurons, d_model {}, {}\ncalibration: {}, {} tokens; neurons "
      "ranked by {}; a neuron takes {} bytes, in 2 bits {}, in 3 bits {}, in 4 bits {}\n\n",
      BaseName(args.engine.model_path), model.config().n_layers, model.config().d_ff,
      model.config().d_model, ActivationName(model.config().activation), BaseName(args.text_path),
      stats.calibration.n_tokens, args.ranking, shop.builder().hot_bytes(),
      shop.builder().stand_in_bytes(StandInType(2, model.config().d_model)),
      shop.builder().stand_in_bytes(StandInType(3, model.config().d_model)),
      shop.builder().stand_in_bytes(StandInType(4, model.config().d_model))));
  std::vector<DraftSeries> series;
  std::vector<DraftMeter> meters;
  for (size_t t = 0; t < heldout.size(); ++t) {
    series.push_back({BaseName(args.heldout_paths[t]), args.by == "bytes", {}});
    meters.push_back(shop.Meter(heldout[t]));
  }
  for (const double share : shares) {
    for (const StandInKind& kind : kinds) {
      const auto recipe = AskedRecipe(args, shop.builder(), kind, share);
      if (!recipe) continue;
      const DraftFile draft = shop.builder().Build(*recipe);
      for (size_t t = 0; t < meters.size(); ++t) {
        series[t].drafts.push_back(
            MeasureDraft(shop.builder(), meters[t], kind, share, *recipe, draft));
      }
    }
  }
  std::vector<DraftDepthSeries> depths;
  for (const StandInKind& kind : ParsedStandIns("--depth-stand-in", args.depth_stand_ins)) {
    if (args.depth == 0) break;
    const auto recipe = AskedRecipe(args, shop.builder(), kind, *std::ranges::max_element(shares));
    if (!recipe) continue;
    const DraftFile draft = shop.builder().Build(*recipe);
    for (size_t t = 0; t < meters.size(); ++t) {
      DraftPass& pass = shop.builder().Run(draft);
      depths.push_back({series[t].text, kind.Name(),
                        meters[t].MeasureDepth(pass, args.depth, args.stride, args.seed)});
    }
  }
  ClearStderrProgress();
  for (const DraftSeries& s : series) WriteOutput(DraftTable(s));
  WriteOutput(DraftDepthTable(depths));
  if (args.report_path.empty()) return;
  WritePage(args.report_path, DraftPage(BaseName(args.engine.model_path), series, depths));
}

}  // namespace

void AddDraftsVerb(CLI::App& app) {
  const auto args = std::make_shared<DraftsArgs>();
  CLI::App* verb = AddVerb(
      app, "drafts", "Measures what drafts of the hot neurons are accepted with, by their make-up",
      kDraftsDetails);
  verb->add_option("-m,--model", args->engine.model_path, "Model (GGUF)")
      ->required()
      ->type_name("FILE");
  AddThreadsOption(*verb, &args->engine.n_threads);
  verb->add_option("-f,--file", args->text_path, "Text that drafts are made from")
      ->required()
      ->type_name("FILE");
  verb->add_option("--heldout", args->heldout_paths,
                   "Text that they are measured on; may be given more than once")
      ->required()
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_option("--shares", args->shares,
                   "Shares of the neurons' bytes (default 0.2,0.35,0.5,0.7,0.9)")
      ->type_name("LIST");
  verb->add_option("--stand-ins", args->stand_ins,
                   "What stands in for the others (default none, bias, ranks, 2bit, 3bit, mixed)")
      ->type_name("LIST");
  verb->add_option("--by", args->by,
                   "Whether shares are of the neurons' bytes or of the neurons "
                   "that are hot: bytes (default), hot")
      ->type_name("WHAT");
  verb->add_option("--ranking", args->ranking,
                   "Which neurons are hot: by mass (|h| |down|, default) or frequency")
      ->type_name("WHAT");
  AddNumberOption(*verb, "--tokens", &args->tokens, {.least = 256, .most = kMaxTokensFlag},
                  fmt::format("Tokens to make drafts from (default {})", args->tokens));
  AddNumberOption(*verb, "--heldout-tokens", &args->heldout_tokens,
                  {.least = 256, .most = kMaxTokensFlag},
                  fmt::format("Tokens of each held-out text, of which half are scored (default {})",
                              args->heldout_tokens));
  AddNumberOption(*verb, "--depth", &args->depth, {.least = 0, .most = 64},
                  "Also draft chains of so many tokens (default 0: none)");
  verb->add_option("--depth-stand-in", args->depth_stand_ins,
                   "What stands in for the others in chains (default copy,4bit)")
      ->type_name("LIST");
  AddNumberOption(*verb, "--stride", &args->stride, {.least = 1, .most = 4096},
                  fmt::format("A chain from every so many positions (default {})", args->stride));
  AddNumberOption(*verb, "-s,--seed", &args->seed, {}, "Seed of what chains draw (default 1)");
  AddReportOption(*verb, &args->report_path, "the tables as pictures");
  verb->callback([args] { RunDrafts(*args); });
}

}  // namespace thermocline
