// thermocline bench: dense against sparse on the same model, weights and prompts, quality beside
// speed.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <random>

#include "profiler/activations/profile_file.h"
#include "runtime/core/error.h"
#include "runtime/rates/measure_rates.h"
#include "runtime/rates/read_bandwidth.h"
#include "tools/bench/compare_modes.h"
#include "tools/bench/parallel_decode.h"
#include "tools/reports/bench_page.h"
#include "tools/reports/bench_report.h"
#include "tools/reports/messages.h"
#include "tools/reports/pass_report.h"
#include "tools/reports/roofline.h"
#include "tools/reports/run_summary.h"
#include "tools/reports/trace_file.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/bench_serve.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/draft_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/placement_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kBenchDetails =
    "Every prompt is run in every mode, turn by turn, and continued greedily. All modes read the "
    "same\n"
    "stored weights (down projections stored per neuron), so the difference is what skipping "
    "does.\n"
    "Speeds are medians over the prompts with the 10th and 90th percentile; the speed-up is taken\n"
    "prompt by prompt. GB/s are bytes of weights touched per token times tokens per second, beside "
    "the\n"
    "read bandwidth measured before each prompt. Tokens are identical up to a prompt's first\n"
    "difference. Prompts are cut from the text of -f; without it they are random tokens, good "
    "enough\n"
    "for speed but not for sparsity.\n"
    "With a GPU, a pass of its own shows per token: the time of each part on the GPU and on the "
    "CPU,\n"
    "the share in which either had nothing to do, and the bytes over the bus (table and json).\n"
    "With --speculate, or what else asks for drafts, the prompts are also continued with them, in\n"
    "turn with plain decoding: as chains, and as trees of --draft-width; with --draft-max and\n"
    "--draft-p-min, as `run` would. Where rates of the machine are kept (`thermocline calibrate`)\n"
    "or given, what they predict of it stands beside what was measured; with --profile they know\n"
    "what is skipped.\n"
    "With --profile another pass of its own shows what every layer takes beside what was "
    "predicted.\n"
    "\n"
    "Example:\n"
    "  thermocline bench -m model.gguf --placement model.placement.gguf -f text.txt";

constexpr uint64_t kBenchReadBytes = uint64_t{192} << 20;  // read per measurement

constexpr int64_t kMaxParallel = 1024;
// Trees of drafts are compared with chains.
constexpr int64_t kBenchDraftWidth = 3;
constexpr int64_t kServedAtATime = 8;  // where --parallel is not given

struct BenchArgs {
  EngineOptions engine;
  ComparisonOptions comparison;
  std::string text_path;
  std::string format = "table";
  bool no_bandwidth = false;
  bool roofline = false;
  std::optional<std::string> trace_path;
  std::string report_path;
  BenchServeArgs serve;
  DraftArgs draft;
  std::string profile_path;  // empty: no times of layers
  std::string rates_path;
};

std::vector<std::vector<int32_t>> MakePrompts(const BenchArgs& options, const Engine& engine) {
  if (!options.text_path.empty()) {
    const std::string text = ReadTextFile(options.text_path);
    return CutPrompts(engine.tokenizer(), engine.tokenizer().Encode(text), options.comparison);
  }
  std::mt19937 random(1);
  std::vector<int32_t> ids(
      static_cast<size_t>(options.comparison.n_prompts * options.comparison.prompt_tokens));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint32_t>(engine.config().vocab_size));
  }
  return CutPrompts(engine.tokenizer(), ids, options.comparison);
}

double HotShare(const Engine& engine) {
  double hot = 0;
  for (const LayerWeights& layer : engine.weights().layers) {
    hot += static_cast<double>(layer.slices.front().n_neurons);
  }
  return hot / static_cast<double>(engine.config().n_neurons());
}

// Measures where the time goes in every mode, in runs of their own: where there is a GPU, for the
// report; where a trace is wanted, for that.
void MeasurePassesOf(const std::vector<SparseMode>& modes,
                     const std::vector<std::vector<int32_t>>& prompts, const BenchArgs& options,
                     Engine& engine, TraceFile* trace, BenchReport* report) {
  const bool gpu = !engine.model().gpu().empty();
  if (!gpu && trace == nullptr) return;
  const auto n_modes = static_cast<int64_t>(modes.size());
  const int64_t keep_spans = trace == nullptr ? 0 : TraceFile::kMaxSpans / n_modes;
  for (const SparseMode mode : modes) {
    report->steps.push_back(MeasurePasses(engine, mode, prompts, options.comparison, keep_spans));
  }
  if (trace != nullptr) {
    std::vector<TraceFile::Part> parts;
    for (const PassReport& steps : report->steps) {
      parts.push_back({std::string(SparseModeName(steps.mode)), &steps.profile});
    }
    const std::string note = trace->Write(parts);
    PrintNote(note);
  }
  if (!gpu) report->steps.clear();
}

// What predictions go by.
struct Expectation {
  ProfileStats stats;
  MachineRates rates;
};

// Returns nothing where it was not asked for, nor rates are there by which drafting is predicted.
// Without a profile every neuron counts as active.
std::optional<Expectation> ExpectationOf(const BenchArgs& options, const OpenedModel& model) {
  const bool drafts = options.draft.options.kind != DraftKind::kNone;
  const bool profiled = !options.profile_path.empty();
  if (!profiled && !(drafts && HasRates(options.rates_path))) return std::nullopt;
  Expectation expected;
  if (profiled) {
    expected.stats = ReadProfile(options.profile_path);
    CheckProfileFits(expected.stats, model.config(), options.engine.model_path,
                     ModelFingerprints(model.gguf()));
  }
  PlacementArgs rates;
  rates.rates_path = options.rates_path;
  PrintNote(SettleRates(model, /*needed=*/true, &rates, model.draft()));
  expected.rates = *rates.rates;
  return expected;
}

void MeasureLayers(const std::vector<SparseMode>& modes,
                   const std::vector<std::vector<int32_t>>& prompts, const BenchArgs& options,
                   const Expectation& expected, Engine& engine, BenchReport* report) {
  const auto prompt_tokens = static_cast<int64_t>(prompts.front().size());
  for (const SparseMode mode : modes) {
    const PassReport measured =
        MeasurePasses(engine, mode, prompts, options.comparison, TraceFile::kMaxSpans);
    report->layer_times.push_back(
        MakeLayerTimes(engine, measured, expected.stats, expected.rates,
                       prompt_tokens + options.comparison.decode_tokens / 2));
  }
}

// What was measured beside what was to be expected. Nothing where one of several sources drafts:
// which one follows from what is measured.
void CompareWithPlan(const Drafting& drafting, const SpeculationResult& measured,
                     const BenchArgs& options, const std::vector<std::vector<int32_t>>& prompts,
                     Expectation& expected, Engine& engine, BenchReport* report) {
  if (options.draft.options.kind == DraftKind::kAuto && drafting.n_sources() > 1) return;
  const OpenedModel& model = engine.model();
  const PassShape shape = {.context_tokens = static_cast<int64_t>(prompts.front().size()) +
                                             options.comparison.decode_tokens / 2,
                           .mode = measured.mode,
                           .n_threads = model.n_threads(),
                           .placed = model.placement() != nullptr};
  const int64_t most = options.draft.options.speculate.max_tokens;
  DraftingTimes times = TimesOfDrafting(model, expected.stats, expected.rates, shape,
                                        SplitsOf(model), model.draft(), most);
  if (const OpenedModel* const other = drafting.draft_model()) {
    AddMissingTypes(RateTypesOf(*other), /*quick=*/true, &expected.rates);
    PassShape of_draft = shape;
    of_draft.mode = other->mode();
    of_draft.placed = false;
    times.draft_ms =
        TimesOfDrafting(*other, {}, expected.rates, of_draft, SplitsOf(*other), nullptr, 0)
            .plain_ms();
  }
  RecordedDrafting recorded = {.extend = measured.source != "hot",
                               .options = options.draft.options.speculate};
  if (options.draft.options.kind == DraftKind::kHot) recorded.chains = &model.draft()->chains;
  report->drafting.push_back(CompareDrafting(measured, times, recorded));
}

void MeasureDrafts(const std::vector<SparseMode>& modes,
                   const std::vector<std::vector<int32_t>>& prompts, const BenchArgs& options,
                   OpenedModel& model, std::optional<Expectation>& expected, Engine& engine,
                   BenchReport* report) {
  for (const SparseMode mode : modes) {
    // Each learns for itself.
    Drafting drafting(options.draft.options, model);
    drafting.Use(engine);
    // Trees beside chains of as many tokens, and what is extended beside what is not.
    std::vector<Speculator*> speculators = {&drafting.speculator()};
    std::vector<std::unique_ptr<Speculator>> others;
    const auto warms_up = drafting.MakeSpeculator(1, false);
    const auto add = [&](int64_t width, bool extend) {
      others.push_back(drafting.MakeSpeculator(width, extend));
      speculators.insert(speculators.begin(), others.back().get());
    };
    if (speculators.front()->options().max_children > 1) add(1, drafting.extends());
    if (drafting.extends()) add(1, false);
    for (SpeculationResult& result :
         MeasureSpeculation(engine, mode, speculators, *warms_up, prompts, options.comparison)) {
      if (expected) {
        CompareWithPlan(drafting, result, options, prompts, *expected, engine, report);
      }
      report->speculation.push_back(std::move(result));
    }
  }
}

void Run(BenchArgs& options) {
  SettleDraft("bench", &options.draft, &options.engine);
  const bool drafts = options.draft.options.kind != DraftKind::kNone;
  if (options.format == "csv" && drafts) {
    FailUsage("bench", "--speculate goes with -o table or -o json, not with csv");
  }
  if (options.format == "csv" && (options.roofline || options.engine.n_sequences > 1)) {
    FailUsage("bench", "--roofline and --parallel go with -o table or -o json, not with csv");
  }
  if (!options.rates_path.empty() && options.profile_path.empty() && !drafts) {
    FailUsage("bench", "--rates goes with --profile, which has layers predicted, and with drafts");
  }
  std::optional<TraceFile> trace;
  if (options.trace_path) {
    std::vector<std::string> inputs = InputFiles(options.engine);
    inputs.push_back(options.text_path);
    CheckNotRead(*options.trace_path, inputs);
    trace.emplace(*options.trace_path);
  }
  if (!options.report_path.empty()) {
    std::vector<std::string> inputs = InputFiles(options.engine);
    inputs.push_back(options.text_path);
    CheckOutputPath(options.report_path, inputs);
  }
  options.engine.progress = StderrProgress();
  options.comparison.progress = options.engine.progress;
  auto model = std::make_unique<OpenedModel>(options.engine);
  RequireNoEncoder(model->config(), options.engine.model_path, "a bench");
  std::optional<Expectation> expected = ExpectationOf(options, *model);
  OpenedModel& opened = *model;
  Engine engine(std::move(model));
  if (options.roofline && !engine.model().gpu().empty()) {
    throw Error({.what = "--roofline measures tiers of the CPU, and this run has a GPU",
                 .hint = "leave it out (with a GPU the report has the time of every part), or use "
                         "--fast-tier cpu"});
  }
  const int64_t needed = options.comparison.prompt_tokens + options.comparison.decode_tokens;
  if (needed > engine.context_tokens()) {
    throw Error({.what = "prompt and continuation do not fit the context",
                 .expected = fmt::format("at most {} tokens", engine.context_tokens()),
                 .found = std::to_string(needed),
                 .hint = "lower --prompt-tokens or -n, or raise -c"});
  }
  BenchReport report;
  std::vector<SparseMode> modes = {SparseMode::kDense};
  if (engine.model().mode() != SparseMode::kDense) {
    const auto& choice = engine.model().threshold_choice();
    if (engine.config().has_true_zeros()) modes.push_back(SparseMode::kExact);
    // Beside thresholds what the FFN does without them.
    if (choice && choice->ffn_mode == SparseMode::kPredicted) {
      modes.push_back(SparseMode::kPredicted);
    }
    if (engine.model().mode() != SparseMode::kExact) modes.push_back(engine.model().mode());
  } else if (options.engine.sparse == "auto") {
    report.mode_note = "this model's activation has no true zeros: there is nothing exact to skip";
  }
  const auto prompts = MakePrompts(options, engine);
  if (!options.no_bandwidth) {
    // Shared machines change from second to second, so the yardstick is taken as often as the
    // times.
    options.comparison.before_prompt = [&] {
      report.bandwidths.push_back(
          MeasureReadBandwidth(engine.model().n_threads(), kBenchReadBytes));
    };
  }
  report.model = engine.config().name.empty() ? options.engine.model_path : engine.config().name;
  report.n_threads = engine.model().n_threads();
  if (engine.model().predictor() != nullptr) {
    report.predictor = engine.model().predictor()->Description();
  }
  report.two_tiers = engine.model().placement() != nullptr;
  report.hot_share = HotShare(engine);
  if (engine.requant().requantised) report.requant_error = engine.requant().relative_rms_error;
  report.modes = CompareModes(engine, modes, prompts, options.comparison);
  for (size_t m = 0; options.roofline && m < modes.size(); ++m) {
    report.rooflines.push_back(MeasureRoofline(engine, modes[m], prompts, options.comparison));
  }
  report.gpu_note = NoteText(engine.model().gpu_note(), "bench");
  report.stream = engine.executor().stream_use();
  report.adapt = AdaptText(engine);
  report.slow_tier_bytes_per_s = options.engine.slow_tier_bytes_per_s;
  MeasurePassesOf(modes, prompts, options, engine, trace ? &*trace : nullptr, &report);
  if (!options.profile_path.empty())
    MeasureLayers(modes, prompts, options, *expected, engine, &report);
  for (size_t m = 0; options.engine.n_sequences > 1 && m < modes.size(); ++m) {
    report.parallel.push_back(MeasureParallel(engine, modes[m], options.engine.n_sequences, prompts,
                                              options.comparison.decode_tokens));
  }
  if (drafts) MeasureDrafts(modes, prompts, options, opened, expected, engine, &report);
  ClearStderrProgress();
  if (!options.report_path.empty()) WritePage(options.report_path, BenchPage(report));
  if (options.format == "json") return WriteOutput(BenchJson(report));
  if (options.format == "csv") return WriteOutput(BenchCsv(report));
  WriteOutput(BenchTable(report));
}

// slots_given: --parallel says how many texts are written at a time.
void RunServe(BenchArgs& options, bool slots_given) {
  BenchServeArgs& serve = options.serve;
  serve.shape.n_requests = options.comparison.n_prompts;
  serve.shape.prompt_tokens = options.comparison.prompt_tokens;
  serve.shape.max_tokens = options.comparison.decode_tokens;
  if (!slots_given) options.engine.n_sequences = kServedAtATime;
  SettleDraft("bench", &options.draft, &options.engine);
  RunBenchServe({options.engine, options.draft.options, options.format, options.report_path,
                 options.rates_path},
                serve);
}

}  // namespace

void AddBenchVerb(CLI::App& app) {
  auto options = std::make_shared<BenchArgs>();
  CLI::App* verb =
      AddVerb(app, "bench", "Compares dense with sparse: speed, bytes and quality", kBenchDetails);
  AddModelOptions(*verb, &options->engine);
  AddEngineOptions(*verb, &options->engine);
  AddAdaptOption(*verb, Adapt::kOff, &options->engine);
  AddLoraOption(*verb, &options->engine);
  verb->add_option("-f,--file", options->text_path, "text the prompts are cut from")
      ->type_name("FILE");
  const Bounds<int64_t> some = {.least = 1, .most = kMaxTokensFlag};
  AddNumberOption(*verb, "--prompts", &options->comparison.n_prompts, some,
                  "number of prompts (default 20)");
  AddNumberOption(*verb, "--prompt-tokens", &options->comparison.prompt_tokens, some,
                  "tokens of a prompt, BOS included (default 32)");
  AddNumberOption(*verb, "-n,--predict", &options->comparison.decode_tokens, some,
                  "tokens to continue each prompt by (default 64)");
  verb->add_option("-o,--output", options->format, "table, json or csv (default table)")
      ->check(CLI::IsMember({"table", "json", "csv"}));
  verb->add_flag("--no-bandwidth", options->no_bandwidth,
                 "do not measure the read bandwidth (takes 192 MiB)");
  verb->add_flag("--roofline", options->roofline,
                 "also print where a decoded token's time goes, part by part, beside what the "
                 "part's bytes take at the read bandwidth (table and json)");
  AddNumberOption(*verb, "--parallel", &options->engine.n_sequences,
                  {.least = 1, .most = kMaxParallel},
                  "also decode so many sequences in one pass per token, in turn with one, and "
                  "print tokens/s in all and per sequence (table and json; CPU)")
      ->type_name("N");
  verb->add_option("--profile", options->profile_path,
                   "Statistics of the model, made by `profile`: also print what each layer takes "
                   "beside what they and the rates of this machine predict (table, json and "
                   "--report)")
      ->type_name("FILE");
  verb->add_option(
          "--rates", options->rates_path,
          "With --profile or drafts: rates of this machine, made by `calibrate`; "
          "default: those that it keeps, and with --profile, where there are none, what is "
          "needed is measured")
      ->type_name("FILE");
  AddDraftOptions(*verb, &options->draft, kBenchDraftWidth);
  AddTraceOption(*verb, &options->trace_path);
  AddReportOption(*verb, &options->report_path, "the modes beside each other");
  const CLI::App* const serve = AddBenchServe(*verb, &options->serve);
  // A server that is asked has its model.
  verb->get_option("--model")->required(false);
  verb->callback([options, serve, verb] {
    const bool asks_server = serve->parsed() && !options->serve.url.empty();
    if (options->engine.model_path.empty() && !asks_server) throw CLI::RequiredError("--model");
    if (!serve->parsed()) return Run(*options);
    RunServe(*options, verb->count("--parallel") > 0);
  });
}

}  // namespace thermocline
