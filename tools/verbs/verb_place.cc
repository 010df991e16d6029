// thermocline place: statistics and budgets -> placement.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "profiler/activations/profile_file.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/core/size_text.h"
#include "tools/reports/placement_page.h"
#include "tools/reports/placement_report.h"
#include "tools/reports/plan_table.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/placement_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kPlaceDetails =
    R"(Reads the statistics that `thermocline profile` counted and decides which neurons of each layer lie in
VRAM, of what --vram leaves over after embeddings, attention, KV cache and scratch. With a GPU it takes
the split whose tokens take the least time by the rates of this machine (`thermocline calibrate`), over
all splits in clusters of 32 neurons; without one, or with --objective coverage, the clusters with the
most activations per byte. The others must fit --ram. Prints the memory each tier will hold and how
much of the held-out activations the placement covers (an LRU cache for comparison needs the text, so
`profile` prints it). The model is opened but not loaded.

--explain prints what the fastest split is expected to take beside other ways to split: by activations
per byte, the same share of every layer, and whole layers; with --draft FILE also the split that drafting
with the hot neurons wants and what it would bring (docs/drafts.md), alone and extended by n-grams, by how
far its chains were right when it was made. --slow-tier-limit holds the slow tier to a rate in all that
is predicted. --sweep vram=4G..24G[:1G] prints what more memory would bring.

The plan holds for runs with this context (-c), batch (-b) and number of threads (-t), or smaller ones.
Sizes: 8G, 512M, 1.5G (binary units). Output: a .placement.gguf, for `run --placement`.

Example:
  thermocline place -m model.gguf --profile model.profile.gguf --vram 8G --ram 32G \
    -o model.placement.gguf)";

constexpr uint64_t kMostPoints = 1000;  // of a sweep
constexpr uint64_t kUsualPoints = 20;
constexpr double kBytesPerGb = 1e9;

struct PlaceArgs {
  PlacementArgs common;
  std::string profile_path;
  std::string draft_path;
  double slow_gb_per_s = 0;  // 0: what the slow tier can
  std::string output_path;
  std::string report_path;
  bool explain = false;
  std::string sweep;
  bool json = false;
};

struct Sweep {
  uint64_t from = 0;
  uint64_t to = 0;
  uint64_t step = 1;
};

// Reads "vram=4G..24G" or "vram=4G..24G:1G". Without a step there are 21 points.
Sweep ParseSweep(const std::string& text) {
  const auto fail = [&]() {
    FailUsage("place", fmt::format("--sweep '{}' is not vram=FROM..TO or vram=FROM..TO:STEP, of at "
                                   "most {} sizes, such as vram=4G..24G:1G",
                                   Printable(text), kMostPoints));
  };
  constexpr std::string_view kWhat = "vram=";
  const size_t dots = text.find("..");
  if (!text.starts_with(kWhat) || dots == std::string::npos) fail();
  const size_t colon = text.find(':', dots);
  const auto from = ParseSize(text.substr(kWhat.size(), dots - kWhat.size()));
  const size_t end = colon == std::string::npos ? text.size() : colon;
  const auto to = ParseSize(text.substr(dots + 2, end - dots - 2));
  if (!from || !to || *from > *to) fail();
  Sweep sweep{*from, *to, std::max<uint64_t>(1, (*to - *from) / kUsualPoints)};
  if (colon != std::string::npos) {
    const auto step = ParseSize(text.substr(colon + 1));
    if (!step || *step == 0 || (*to - *from) / *step >= kMostPoints) fail();
    sweep.step = *step;
  }
  return sweep;
}

std::vector<SweepPoint> RunSweep(const TimePlacer& placer, const Sweep& sweep, uint64_t ram_bytes) {
  std::vector<SweepPoint> points;
  for (uint64_t vram = sweep.from; vram <= sweep.to; vram += sweep.step) {
    ThrowIfInterrupted();
    points.push_back({vram, placer.Optimal({vram, ram_bytes})});
    if (sweep.to - vram < sweep.step) break;
  }
  return points;
}

void CheckPlaceArgs(const PlaceArgs& args) {
  const bool asks = args.explain || !args.sweep.empty();
  if (args.output_path.empty() && !asks) {
    FailUsage("place", "where shall the placement go? Give -o FILE (or --explain, or --sweep)");
  }
  if (args.json && !asks) FailUsage("place", "--json goes with --explain or --sweep");
  const bool needs_vram = args.explain || !args.output_path.empty();
  if (needs_vram && !args.common.wants_placement()) {
    FailUsage("place", "how much may lie in the fast tier? Give --vram SIZE (or --hot SHARE)");
  }
  if (!args.draft_path.empty() && !args.explain) {
    FailUsage("place", "--draft says what drafting would bring, which --explain prints");
  }
  if (args.explain && args.common.vram->count() == 0) {
    FailUsage("place", "--explain compares ways to fill --vram SIZE");
  }
}

TimeGoal PlaceGoal(const PlaceArgs& args, const OpenedModel& model) {
  TimeGoal goal = GoalOf(model, args.common);
  goal.slow_bytes_per_s = args.slow_gb_per_s * kBytesPerGb;
  return goal;
}

// Opens the model with the draft. Throws Error where that does not say how far it is right.
std::unique_ptr<OpenedModel> OpenDrafted(const PlaceArgs& args) {
  EngineOptions options = args.common.engine;
  options.draft_path = args.draft_path;
  auto model = std::make_unique<OpenedModel>(options);
  if (model->draft()->chains.empty()) {
    throw Error({.path = args.draft_path,
                 .what = "the draft does not say how far its chains are right",
                 .hint = "make it again",
                 .jobs = {Job::kProfile}});
  }
  return model;
}

// What drafting would bring, beside the split that plain decoding wants.
void ExplainDrafting(const PlaceArgs& args, const OpenedModel& model, const ProfileStats& stats,
                     const RatedSplit& plain, std::string* text, nlohmann::ordered_json* json) {
  const TimeGoal goal = PlaceGoal(args, model);
  const PassShape shape = {.context_tokens = goal.context_tokens,
                           .mode = goal.mode,
                           .n_threads = model.n_threads(),
                           .slow_bytes_per_s = goal.slow_bytes_per_s};
  const DraftedSplit drafted = SplitForDrafting(model, stats, *goal.rates, shape,
                                                {args.common.vram_bytes, args.common.ram_bytes});
  *text += DraftingTable(plain, drafted, *model.draft()) + "\n";
  (*json)["drafting"] = DraftingJson(plain, drafted);
}

// What --explain and --sweep print.
PlacementTimes Explain(const PlaceArgs& args, const OpenedModel& model, const OpenedModel* drafted,
                       const ProfileStats& stats) {
  const TimePlacer placer(model, stats, PlaceGoal(args, model));
  PlacementTimes times;
  std::string text;
  nlohmann::ordered_json json;
  if (args.explain) {
    times.splits = placer.Explain({args.common.vram_bytes, args.common.ram_bytes});
    text += SplitsTable(times.splits, model.config().d_ff) + "\n";
    json["explain"] = SplitsJson(times.splits);
    if (drafted != nullptr) {
      ExplainDrafting(args, *drafted, stats, times.splits.front(), &text, &json);
    }
  }
  if (!args.sweep.empty()) {
    times.sweep = RunSweep(placer, ParseSweep(args.sweep), args.common.ram_bytes);
    text += SweepTable(times.sweep) + "\n";
    json["sweep"] = SweepJson(times.sweep);
  }
  WriteOutput(args.json ? json.dump(2) + "\n" : text);
  return times;
}

void CheckReport(const PlaceArgs& args) {
  if (args.report_path.empty()) return;
  if (args.output_path.empty()) {
    FailUsage("place", "--report shows a placement, which needs -o FILE");
  }
  CheckOutputPath(args.report_path, {args.common.engine.model_path, args.profile_path,
                                     args.common.rates_path, args.output_path});
}

// "predicted 12.345 ms/token" where the placement says so.
std::string PredictionLine(const Placement& placement) {
  if (!placement.prediction) return "";
  const PlacementPrediction& p = *placement.prediction;
  return fmt::format("predicted: {:.3f} ms/token ({}, {} threads, {} tokens of context)\n",
                     p.ms_per_token, p.mode, p.n_threads, p.context_tokens);
}

void RunPlace(PlaceArgs& args) {
  CheckPlaceArgs(args);
  if (!args.output_path.empty()) {
    CheckRereadOutputPath(args.output_path, {args.common.engine.model_path, args.profile_path,
                                             args.common.rates_path});
  }
  CheckReport(args);
  const bool asks = args.explain || !args.sweep.empty();
  if (!args.sweep.empty()) (void)ParseSweep(args.sweep);
  const OpenedModel model(args.common.engine);
  const ProfileStats stats = ReadProfile(args.profile_path);
  CheckProfileFits(stats, model.config(), model.gguf().path(), ModelFingerprints(model.gguf()));
  std::unique_ptr<OpenedModel> drafted;
  if (!args.draft_path.empty()) drafted = OpenDrafted(args);
  const DraftFile* const draft = drafted == nullptr ? nullptr : drafted->draft();
  const std::string budgets =
      SettleBudgets(&args.common) + SettleRates(model, /*needed=*/asks, &args.common, draft);
  if (!args.json) WriteOutput(budgets + "\n");
  PlacementTimes times;
  if (asks) times = Explain(args, model, drafted.get(), stats);
  if (args.output_path.empty()) return;
  const SolvedPlacement solved = SolvePlacement(model, stats, args.common);
  WritePlacement(args.output_path, solved.placement);

  EngineOptions placed = args.common.engine;  // what `run --dry-run` will print
  placed.placement_path = args.output_path;
  const OpenedModel placed_model(placed);
  const CoverageReport report = MakeCoverageReport(stats, &solved.placement, nullptr);
  if (!args.report_path.empty()) {
    WritePage(args.report_path, PlacementPage(model, stats, report, &placed_model, times));
  }
  if (args.json) return;
  WriteOutput(fmt::format("{}\n{}\n{}placement: {}\n", MemoryPlanTable(placed_model),
                          CoverageTable(report, /*placed=*/true, /*lru=*/false),
                          PredictionLine(solved.placement), args.output_path));
}

}  // namespace

void AddPlaceVerb(CLI::App& app) {
  const auto args = std::make_shared<PlaceArgs>();
  CLI::App* verb = AddVerb(
      app, "place", "Makes a placement for other budgets from statistics, without profiling again",
      kPlaceDetails);
  AddPlacementOptions(*verb, &args->common);
  verb->add_option("--profile", args->profile_path, "Statistics made by `profile` from this model")
      ->required()
      ->type_name("FILE");
  verb->add_option("-o,--output", args->output_path, "Placement file to write")->type_name("FILE");
  verb->add_flag("--explain", args->explain,
                 "Print what the fastest split takes beside other ways to split, and where each "
                 "layer's neurons lie");
  verb->add_option("--draft", args->draft_path,
                   "Draft of the hot neurons (`profile --draft`): --explain prints what drafting "
                   "with it would bring, too")
      ->type_name("FILE");
  AddNumberOption(*verb, "--slow-tier-limit", &args->slow_gb_per_s,
                  {.least = 0, .most = 1e6, .above = true},
                  "GB/s that the slow tier is held to in what is predicted, as a run with that "
                  "option would be");
  verb->add_option("--sweep", args->sweep,
                   "Print what the fastest split takes for several budgets: vram=FROM..TO[:STEP]")
      ->type_name("RANGE");
  AddReportOption(*verb, &args->report_path,
                  "which neurons fire, what the placement covers, where the bytes lie; with "
                  "--explain and --sweep what they print, too");
  verb->add_flag("--json", args->json, "Print --explain and --sweep as JSON");
  verb->callback([args] { RunPlace(*args); });
}

}  // namespace thermocline
