// thermocline profile: corpus -> statistics -> placement.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "profiler/activations/drift_run.h"
#include "profiler/activations/profile_file.h"
#include "profiler/activations/profile_run.h"
#include "profiler/thresholds/calibrate_thresholds.h"
#include "profiler/thresholds/magnitude_observer.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/core/size_text.h"
#include "tools/reports/drift_report.h"
#include "tools/reports/placement_page.h"
#include "tools/reports/plan_table.h"
#include "tools/reports/threshold_table.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/draft_making.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/placement_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kProfileDetails =
    R"(Runs a text through the model and counts, for every layer, in how many tokens each neuron is active
(|h| above --activation-threshold) and how much it adds. The text is cut in windows of -c tokens, BOS in
front of each; every position counts. The last fifth of the windows (--heldout-fraction), or another text
(--heldout), is held out: it is counted apart, and what is printed of a placement is measured on it.

It also sums the squares of what every matrix reads, for `quantize --importance`.

With --thresholds it also measures how large what every matrix reads is, so that small inputs can be skipped
(--sparse teal:0.4 and others, see `run --help`), searches how a share is best split over matrices and layers
(--search-tokens, some minutes for a small model and hours for a large one; 0: no search), and scores the ways
on held-out text against dense. Where nothing is exactly 0 (silu, gelu) and no --activation-threshold is
given, a neuron then counts as active where thresholds for half of the channels would keep it (|h| above its
layer's median), so that placements hold the neurons in VRAM that are seldom skipped. Printed is also how
unequally often the channels of every input are kept (docs/thresholds.md, hot and cold).

With --vram a placement is made in the same go: which neurons lie in VRAM, the most often active ones per
byte first, the rest in RAM. Without it only the statistics are written, and `thermocline place` makes
placements of them later. The printed coverage compares the placement with as many neurons picked at
random and with an LRU cache of the same size.

--draft FILE also makes a draft of the model (docs/drafts.md): what lies on a GPU writes tokens ahead that
the whole model then verifies. Its neurons take --draft-share of the bytes that all take, the hottest ones
in the model's own bits, the others by --draft-stand-in; with auto all are made and measured on held-out
text and the one whose tokens are accepted most is written.

--drift FILE (more than once) has further texts follow the held-out one, and prints how the placement
covers each: as it is, with neurons that change tiers as `run --adapt on` moves them, and the best that
one could have chosen knowing that text.

A text is plain bytes in any encoding, of the kind the model will be used for; 100 000 tokens give steady
counts. Sizes: 8G, 512M, 1.5G (binary units).

Examples:
  thermocline profile -m model.gguf -f corpus.txt --vram 8G --ram 32G -o model.profile.gguf
  thermocline profile -m model.gguf -f corpus.txt --heldout other.txt --max-tokens 200000 \
    -o model.profile.gguf)";

constexpr int64_t kFewCalibrationTokens = 10000;
constexpr double kCountedShare = 0.5;
constexpr double kHardlySparse = 0.1;

struct ProfileArgs {
  PlacementArgs common;
  ProfileOptions profile;
  std::string output_path;
  std::string placement_path;
  std::string report_path;
  std::vector<std::string> drift_paths;
  bool thresholds = false;
  ThresholdOptions threshold;
  DraftMakingArgs draft;
};

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Turns model.profile.gguf into model.placement.gguf.
std::string DefaultPlacementPath(const std::string& output_path) {
  for (const char* ending : {".profile.gguf", ".gguf"}) {
    if (!EndsWith(output_path, ending)) continue;
    return output_path.substr(0, output_path.size() - std::string(ending).size()) +
           ".placement.gguf";
  }
  return output_path + ".placement.gguf";
}

// Whatever can be known to fail fails here, before the long work.
void CheckOutputs(ProfileArgs* args) {
  const bool placing = args->common.wants_placement();
  if (!placing && !args->placement_path.empty()) {
    FailUsage("profile", "--placement needs --vram SIZE (or --hot SHARE)");
  }
  if (!placing && !args->drift_paths.empty()) {
    FailUsage("profile",
              "--drift tells how a placement covers texts, which needs --vram SIZE (or "
              "--hot SHARE)");
  }
  std::vector<std::string> inputs = {args->common.engine.model_path, args->profile.text_path};
  inputs.insert(inputs.end(), args->drift_paths.begin(), args->drift_paths.end());
  if (!args->profile.heldout_path.empty()) inputs.push_back(args->profile.heldout_path);
  CheckOutputPath(args->output_path, inputs);
  CheckDraftMaking(args->draft, inputs);
  if (!placing) return;
  if (args->placement_path.empty()) args->placement_path = DefaultPlacementPath(args->output_path);
  inputs.push_back(args->output_path);
  CheckOutputPath(args->placement_path, inputs);
}

void CheckReport(const ProfileArgs& args) {
  if (args.report_path.empty()) return;
  CheckOutputPath(args.report_path,
                  {args.common.engine.model_path, args.profile.text_path, args.profile.heldout_path,
                   args.output_path, args.placement_path});
}

void WriteReport(const ProfileArgs& args, const OpenedModel& model, const ProfileStats& stats,
                 const CoverageReport& coverage, bool placed, const PlacementMoves& moves) {
  if (args.report_path.empty()) return;
  std::optional<OpenedModel> placed_model;
  if (placed) {
    EngineOptions options = args.common.engine;
    options.sparse = "auto";
    options.placement_path = args.placement_path;
    placed_model.emplace(options);
  }
  WritePage(args.report_path,
            PlacementPage(model, stats, coverage, placed ? &*placed_model : nullptr, {}, moves));
}

std::string Introduction(const ProfileArgs& args, const OpenedModel& model,
                         const ProfileTexts& texts) {
  const ModelConfig& config = model.config();
  const bool apart = !args.profile.heldout_path.empty();
  std::string text =
      fmt::format("model: {}, {} layers of {} neurons, {}\n", BaseName(model.gguf().path()),
                  config.n_layers, config.d_ff, ActivationName(config.activation));
  text +=
      fmt::format("calibration: {}, {} tokens in {} windows\n", BaseName(args.profile.text_path),
                  texts.calibration_tokens(), texts.calibration_windows());
  text += fmt::format("held-out: {}, {} tokens in {} windows\n",
                      apart ? BaseName(args.profile.heldout_path) : "the end of the same text",
                      texts.heldout_tokens(), texts.heldout_windows());
  if (texts.calibration_tokens() < kFewCalibrationTokens) {
    text += fmt::format(
        "note: {} calibration tokens are few; counts of rarely active neurons will "
        "be rough\n",
        texts.calibration_tokens());
  }
  return text;
}

// Says what to do about a model whose neurons are nearly all active.
std::string SparsityNote(const CoverageReport& report, double activation_threshold) {
  const double sparsity = report.total.heldout_sparsity;
  if (sparsity >= kHardlySparse) return "";
  return fmt::format(
      "note: {:.1f} % of the neurons are active in the mean token (|h| > {}), so which of them are "
      "hot\nmeans little. Models without true zeros (silu, gelu) need --activation-threshold: "
      "raise "
      "it until the\nsparsity is what you would skip, 50 to 90 %.\n",
      100 * (1 - sparsity), activation_threshold);
}

std::string Closing(const ProfileArgs& args, const ProfileStats& stats, double seconds,
                    const SolvedPlacement* solved) {
  const int64_t n_tokens = stats.calibration.n_tokens + stats.heldout.n_tokens;
  std::string text =
      fmt::format("profile: {} ({} tokens in {:.1f} s, {:.0f} tokens/s)\n", args.output_path,
                  n_tokens, seconds, static_cast<double>(n_tokens) / std::max(seconds, 1e-9));
  if (solved == nullptr) {
    return text +
           "no placement was made: that takes --vram (here, or later with `thermocline place`)\n";
  }
  return text + fmt::format("placement: {} (vram {}, dram {})\n", args.placement_path,
                            FormatBytes(solved->plan.total_bytes(0)),
                            FormatBytes(solved->plan.total_bytes(1)));
}

// Simulations of neurons that move: of the placement, and of some shares of every layer for the
// report. They see the held-out text first.
struct Moves {
  MoveOptions options;
  std::vector<DriftSimulation> simulations;
  std::vector<double> shares;  // of those behind the placement's

  Moves(const ProfileArgs& args, const OpenedModel& model, const ProfileStats& stats,
        const SolvedPlacement* solved) {
    if (solved == nullptr || (args.drift_paths.empty() && args.report_path.empty())) return;
    options = static_cast<const MoveOptions&>(MoverOptionsOf(model, solved->placement));
    simulations.emplace_back(stats.d_ff(), solved->placement, options);
    for (const double wanted : {0.05, 0.1, 0.2, 0.3, 0.5, 0.75}) {
      if (args.report_path.empty()) break;
      const Placement placement = HottestShare(stats, wanted);
      simulations.emplace_back(stats.d_ff(), placement, options);
      // In clusters it is another share than was wanted.
      shares.push_back(static_cast<double>(placement.layers.front().n_on[kVram]) /
                       static_cast<double>(stats.d_ff()));
    }
    for (DriftSimulation& simulation : simulations) simulation.BeginText("held-out");
  }

  PlacementMoves Results() const {
    PlacementMoves moves;
    if (simulations.empty()) return moves;
    moves.texts = simulations.front().Texts();
    for (size_t i = 0; i < shares.size(); ++i) {
      const DriftedText text = simulations[i + 1].Texts().front();
      if (text.activations > 0) {
        moves.held_out.emplace_back(shares[i], text.moving / text.activations);
      }
    }
    return moves;
  }
};

// What thresholds are calibrated for must run with them.
void CheckThresholds(const OpenedModel& model) {
  EngineOptions options = model.options();
  if (!model.gpu().empty()) {
    throw Error({.path = options.model_path,
                 .what = "thresholds are calibrated on the CPU alone",
                 .expected = "the CPU as the fast tier",
                 .found = model.gpu(),
                 .settings = {{Setting::kFastTier, "cpu"}}});
  }
  if (!model.family().sub_norms) return;
  throw Error({.path = options.model_path,
               .what = fmt::format("models of family {} run without thresholds",
                                   model.config().architecture)});
}

// What is printed of thresholds.
struct ThresholdFindings {
  std::vector<ThresholdScore> scores;
  std::vector<ChannelSkew> skews;
};

// Searches and scores by the first windows of both splits.
ThresholdFindings MakeThresholds(const ProfileArgs& args, Engine& engine,
                                 MagnitudeObserver* magnitudes, ProfileRun* run) {
  ThresholdOptions options = args.threshold;
  options.progress = args.profile.progress;
  ModelThresholds thresholds = magnitudes->Take(run->stats().calibration.n_tokens);
  const std::vector<int32_t>& text = run->first_window(/*calibration=*/true);
  std::span<const int32_t> heldout = run->first_window(/*calibration=*/false);
  if (!heldout.empty() && heldout.front() == engine.tokenizer().bos_id()) {
    heldout = heldout.subspan(1);
  }
  ThresholdFindings findings;
  findings.scores = CalibrateThresholds(engine, text, heldout, options, &thresholds);
  findings.skews =
      MeasureChannelSkew(engine, text, run->first_window(/*calibration=*/false), thresholds);
  run->SetThresholds(std::move(thresholds));
  return findings;
}

void RunProfile(ProfileArgs& args) {
  CheckOutputs(&args);
  CheckReport(args);
  const bool placing = args.common.wants_placement();
  args.profile.progress = StderrProgress();
  EngineOptions& options = args.common.engine;
  options.sparse = "dense";  // every neuron's h is wanted
  options.progress = args.profile.progress;
  const OpenedModel model(options);
  RequireNoEncoder(model.config(), options.model_path, "profiling");
  if (args.thresholds) {
    CheckThresholds(model);
    const bool counts_by_share =
        !model.config().has_true_zeros() && args.profile.activation_threshold == 0;
    if (counts_by_share) args.profile.cut_share = kCountedShare;
  }
  const std::string budgets = placing ? SettleBudgets(&args.common) : "";
  const std::string rates = placing ? SettleRates(model, /*needed=*/false, &args.common) : "";
  if (placing) CheckPlacementArgs(model, args.common);
  const auto tokenizer = MakeTokenizer(model.gguf());
  ProfileTexts texts(model, *tokenizer, args.profile);
  ClearStderrProgress();
  WriteOutput(Introduction(args, model, texts) + budgets + rates + "\n");

  EngineOptions whole = options;
  whole.may_split_layers = false;  // the LRU caches watch layers whole
  whole.watch_attention = true;    // `quantize --importance` wants what its matrices read
  whole.sets_cuts = args.thresholds;
  whole.all_logits = args.thresholds && args.threshold.scored_tokens > 0;
  Engine engine(whole);
  const auto started = std::chrono::steady_clock::now();
  ProfileRun run(engine, texts, args.profile);
  const ChannelOrders orders = ReadChannelOrders(engine.model().gguf(), engine.config());
  std::optional<MagnitudeObserver> magnitudes;
  if (args.thresholds) magnitudes.emplace(engine.model(), orders);
  run.Calibrate(magnitudes ? &*magnitudes : nullptr);
  std::optional<SolvedPlacement> solved;
  std::vector<int64_t> vram_neurons;
  if (placing) {
    solved = SolvePlacement(model, run.stats(), args.common);
    for (const LayerPlacement& layer : solved->placement.layers) {
      vram_neurons.push_back(layer.n_on[kVram]);
    }
  }
  Moves moves(args, model, run.stats(), solved ? &*solved : nullptr);
  DriftObserver drift(model.config(), orders, args.profile.activation_threshold, moves.simulations);
  run.HoldOut(vram_neurons, moves.simulations.empty() ? nullptr : &drift);
  const std::span<DriftSimulation> all(moves.simulations);
  RunDrift(engine, args.drift_paths,
           {args.profile.max_tokens, args.profile.activation_threshold, args.profile.progress},
           all.first(std::min<size_t>(1, all.size())));
  const ThresholdFindings findings =
      magnitudes ? MakeThresholds(args, engine, &*magnitudes, &run) : ThresholdFindings();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  ThrowIfInterrupted();
  WriteProfile(args.output_path, run.stats());
  if (solved) WritePlacement(args.placement_path, solved->placement);

  ClearStderrProgress();
  const CoverageReport report =
      MakeCoverageReport(run.stats(), solved ? &solved->placement : nullptr, run.lru());
  const PlacementMoves moved = moves.Results();
  WriteReport(args, model, run.stats(), report, placing, moved);
  const std::string draft = MakeDraft(args.draft, args.common.engine, args.profile, run.stats());
  WriteOutput(
      CoverageTable(report, placing, run.lru() != nullptr) +
      (args.drift_paths.empty() ? "" : "\n" + DriftTable(moved.texts, moves.options)) +
      SparsityNote(report, args.profile.activation_threshold) + "\n" +
      ThresholdTable(findings.scores, run.stats().thresholds ? &*run.stats().thresholds : nullptr) +
      SkewTable(findings.skews) + draft +
      Closing(args, run.stats(), seconds, solved ? &*solved : nullptr));
}

void AddTextOptions(CLI::App& verb, ProfileOptions* options) {
  verb.add_option("-f,--file", options->text_path, "Text to profile on")
      ->required()
      ->type_name("FILE");
  auto* heldout = verb.add_option("--heldout", options->heldout_path,
                                  "Text to hold out, instead of the end of -f")
                      ->type_name("FILE");
  AddNumberOption(
      verb, "--heldout-fraction", &options->heldout_fraction,
      {.least = 0, .most = 1, .above = true, .below = true},
      fmt::format("Share of the windows of -f to hold out (default {})", options->heldout_fraction))
      ->type_name("SHARE")
      ->excludes(heldout);
  AddNumberOption(verb, "--max-tokens", &options->max_tokens,
                  {.least = 1, .most = int64_t{1} << 53},
                  "Tokens to take of each text (default: all)");
  AddNumberOption(verb, "--activation-threshold", &options->activation_threshold, {.least = 0},
                  "A neuron is active when |h| is above this (default 0: whatever is not zero)");
}

}  // namespace

void AddProfileVerb(CLI::App& app) {
  const auto args = std::make_shared<ProfileArgs>();
  CLI::App* verb =
      AddVerb(app, "profile", "Counts which neurons fire on a text and makes a placement of it",
              kProfileDetails);
  AddPlacementOptions(*verb, &args->common);
  AddPinOption(*verb, &args->common.engine);
  AddTextOptions(*verb, &args->profile);
  verb->add_option("-o,--output", args->output_path, "Statistics file to write (.profile.gguf)")
      ->required()
      ->type_name("FILE");
  verb->add_option("--placement", args->placement_path,
                   "Placement file to write; default with --vram: -o with .placement.gguf")
      ->type_name("FILE");
  verb->add_option(
          "--drift", args->drift_paths,
          "Text that follows the held-out one, to see how the placement covers it and what "
          "moving neurons brings; may be given more than once")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  CLI::Option* const thresholds = verb->add_flag(
      "--thresholds", args->thresholds, "Also calibrate thresholds for --sparse METHOD:SHARE");
  AddNumberOption(
      *verb, "--search-tokens", &args->threshold.search_tokens,
      {.least = 0, .most = kMaxTokensFlag},
      fmt::format("Tokens for the search of how shares are split, at most a batch; 0: no "
                  "search (default {})",
                  args->threshold.search_tokens))
      ->needs(thresholds);
  AddNumberOption(
      *verb, "--scored-tokens", &args->threshold.scored_tokens,
      {.least = 0, .most = kMaxTokensFlag},
      fmt::format("Held-out tokens, at most a window, on which thresholds are scored; 0: "
                  "not at all (default {})",
                  args->threshold.scored_tokens))
      ->needs(thresholds);
  AddDraftMaking(*verb, &args->draft);
  AddReportOption(*verb, &args->report_path,
                  "which neurons fire, what is covered and, with --vram, where the bytes lie");
  verb->callback([args] { RunProfile(*args); });
}

}  // namespace thermocline
