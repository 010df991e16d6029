// thermocline bench: dense against sparse on the same model, weights and prompts, quality beside
// speed.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "tools/bench/compare_modes.h"
#include "tools/bench/parallel_decode.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/reports/messages.h"
#include "tools/reports/pass_report.h"
#include "tools/reports/roofline.h"
#include "tools/reports/stream_report.h"
#include "tools/reports/trace_file.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
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
    "With a GPU, a pass of its own shows per token: the time of each step on the GPU and on the "
    "CPU,\n"
    "the share in which either had nothing to do, and the bytes over the bus (table and json).\n"
    "\n"
    "Example:\n"
    "  thermocline bench -m model.gguf --placement model.placement.gguf -f text.txt";

constexpr uint64_t kBenchReadBytes = uint64_t{192} << 20;  // read per measurement

constexpr int64_t kMaxParallel = 1024;

struct BenchArgs {
  EngineOptions engine;
  ComparisonOptions comparison;
  std::string text_path;
  std::string format = "table";
  bool no_bandwidth = false;
  bool roofline = false;
  std::optional<std::string> trace_path;
};

struct Report {
  std::string model;
  std::string mode_note;
  std::string predictor;
  int n_threads = 0;
  bool two_tiers = false;
  double hot_share = 0;            // share of the FFN neurons
  std::vector<double> bandwidths;  // bytes/s, one per prompt; empty: not measured
  double requant_error = -1;
  std::vector<ModeResult> modes;
  std::vector<Roofline> rooflines;
  std::string gpu_note;
  StreamUse stream;
  std::vector<PassReport> steps;         // with a GPU
  std::vector<ParallelResult> parallel;  // reports of several sequences
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

std::string SpreadText(const Spread& spread) {
  const int digits = spread.median < 100 ? 1 : 0;
  return fmt::format("{:.{}f} ({:.{}f}-{:.{}f})", spread.median, digits, spread.p10, digits,
                     spread.p90, digits);
}

// Returns the bytes read per second in decode over the bandwidth measured just before, prompt by
// prompt.
Spread BandwidthShare(const Report& report, const ModeResult& mode) {
  std::vector<double> shares;
  for (size_t p = 0; p < report.bandwidths.size(); ++p) {
    shares.push_back(mode.decode_speeds[p] * mode.touched.bytes / report.bandwidths[p]);
  }
  return SpreadOf(shares);
}

std::string TokensText(const ModeResult& mode) {
  if (mode.tokens_compared == 0) return "baseline";
  return fmt::format("{}/{}", mode.tokens_identical, mode.tokens_compared);
}

// Returns a column per mode, like the tables above it.
std::string ParallelTable(const std::vector<ParallelResult>& results) {
  std::string text =
      fmt::format("\n{} sequences in one pass, in turn with one\n", results.front().n_sequences);
  const auto row = [&](const std::string& label, const auto& cell) {
    text += fmt::format("{:<26}", label);
    for (const ParallelResult& result : results) text += fmt::format("{:>24}", cell(result));
    text += "\n";
  };
  row("one: decode tokens/s",
      [](const ParallelResult& r) { return SpreadText(r.one_tokens_per_s); });
  row("all: decode tokens/s",
      [](const ParallelResult& r) { return SpreadText(r.all_tokens_per_s); });
  row("  per sequence", [](const ParallelResult& r) {
    return fmt::format("{:.1f}", r.all_tokens_per_s.median / static_cast<double>(r.n_sequences));
  });
  row("  times one", [](const ParallelResult& r) {
    return fmt::format("{:.2f} ({:.2f}-{:.2f})", r.times_one.median, r.times_one.p10,
                       r.times_one.p90);
  });
  row("tokens as when alone", [](const ParallelResult& r) {
    return fmt::format("{}/{}", r.tokens_identical, r.tokens_compared);
  });
  for (const ParallelResult& result : results) {
    for (const float margin : result.first_difference_margins) {
      text += fmt::format(
          "{}: a text among others parts from the one alone where its best token "
          "leads by {:.3g}\n",
          SparseModeName(result.mode), margin);
    }
  }
  return text;
}

void PrintTable(const Report& report) {
  std::string text = fmt::format(
      "model {}, {} threads, {}\n", report.model, report.n_threads,
      report.two_tiers ? fmt::format("{:.0f} % of the neurons hot", 100 * report.hot_share)
                       : "one tier");
  const auto row = [&](const std::string& label, const auto& cell) {
    text += fmt::format("{:<26}", label);
    for (const ModeResult& mode : report.modes) text += fmt::format("{:>24}", cell(mode));
    text += "\n";
  };
  row("", [](const ModeResult& m) { return std::string(SparseModeName(m.mode)); });
  row("prefill tokens/s", [](const ModeResult& m) { return SpreadText(m.prefill_tokens_per_s); });
  row("decode tokens/s", [](const ModeResult& m) { return SpreadText(m.decode_tokens_per_s); });
  row("decode speed-up", [](const ModeResult& m) {
    return fmt::format("{:.2f} ({:.2f}-{:.2f})", m.speed_up.median, m.speed_up.p10, m.speed_up.p90);
  });
  row("  bound by the bytes",
      [](const ModeResult& m) { return fmt::format("{:.2f}", m.byte_bound); });
  row("weights touched per token", [](const ModeResult& m) {
    return fmt::format("{} ({:.0f} %)", FormatBytes(static_cast<uint64_t>(m.touched.bytes)),
                       100 * m.touched.bytes / m.touched.dense_bytes);
  });
  row("weights read, GB/s",
      [](const ModeResult& m) { return fmt::format("{:.2f}", m.read_bytes_per_s / 1e9); });
  if (!report.bandwidths.empty()) {
    row("  of the read bandwidth", [&](const ModeResult& m) {
      const Spread share = BandwidthShare(report, m);
      return fmt::format("{:.0f} % ({:.0f}-{:.0f})", 100 * share.median, 100 * share.p10,
                         100 * share.p90);
    });
  }
  row("FFN neurons skipped", [](const ModeResult& m) {
    return fmt::format("{:.1f} %", 100 * (1 - m.touched.mean_density));
  });
  const bool predicted =
      std::ranges::any_of(report.modes, [](const auto& m) { return m.recall >= 0; });
  if (predicted) {
    row("gates computed", [](const ModeResult& m) {
      return fmt::format("{:.1f} %", 100 * m.touched.mean_gate_density);
    });
    row("recall of the predictor", [](const ModeResult& m) {
      return m.recall < 0 ? std::string("-") : fmt::format("{:.1f} %", 100 * m.recall);
    });
  }
  row("tokens identical", TokensText);
  row("mean KL to the baseline", [](const ModeResult& m) {
    return m.tokens_compared == 0 ? std::string("baseline") : fmt::format("{:.2e} nats", m.mean_kl);
  });
  if (!report.bandwidths.empty()) {
    text += fmt::format(
        "read bandwidth measured between the prompts: {:.1f} GB/s (median) on {} threads\n",
        SpreadOf(report.bandwidths).median / 1e9, report.n_threads);
  }
  if (report.requant_error >= 0) {
    text += fmt::format(
        "the stock file's down projections were re-quantised per neuron: relative RMS error "
        "{:.2e}\n",
        report.requant_error);
  }
  if (!report.predictor.empty()) {
    text += fmt::format(
        "predictor: {}\npredicted was fed the tokens of dense, so each of its tokens is compared\n",
        report.predictor);
  }
  if (!report.gpu_note.empty()) text += report.gpu_note + "\n";
  const std::string stream = StreamUseText(report.stream);
  if (!stream.empty()) text += stream + "\n";
  if (!report.mode_note.empty()) text += report.mode_note + "\n";
  for (const ModeResult& mode : report.modes) {
    for (const float margin : mode.first_difference_margins) {
      text += fmt::format("{} parts from the baseline where its best token leads by {:.3g}\n",
                          SparseModeName(mode.mode), margin);
    }
  }
  for (const Roofline& roofline : report.rooflines) text += RooflineTable(roofline);
  for (const PassReport& steps : report.steps) text += PassTable(steps);
  if (!report.parallel.empty()) text += ParallelTable(report.parallel);
  WriteOutput(text);
}

nlohmann::ordered_json SpreadJson(const Spread& s) {
  return {{"median", s.median}, {"p10", s.p10}, {"p90", s.p90}};
}

nlohmann::ordered_json ParallelJson(const ParallelResult& r) {
  return {{"mode", SparseModeName(r.mode)},
          {"sequences", r.n_sequences},
          {"one_tokens_per_s", SpreadJson(r.one_tokens_per_s)},
          {"all_tokens_per_s", SpreadJson(r.all_tokens_per_s)},
          {"times_one", SpreadJson(r.times_one)},
          {"tokens_compared", r.tokens_compared},
          {"tokens_identical", r.tokens_identical},
          {"first_difference_margins", r.first_difference_margins}};
}

nlohmann::ordered_json ModeJson(const ModeResult& m, const Spread& share) {
  using Json = nlohmann::ordered_json;
  return {{"mode", SparseModeName(m.mode)},
          {"prefill_tokens_per_s", SpreadJson(m.prefill_tokens_per_s)},
          {"decode_tokens_per_s", SpreadJson(m.decode_tokens_per_s)},
          {"decode_speed_up", SpreadJson(m.speed_up)},
          {"speed_up_bound_by_bytes", m.byte_bound},
          {"touched_bytes_per_token", m.touched.bytes},
          {"dense_bytes_per_token", m.touched.dense_bytes},
          {"read_bytes_per_s", m.read_bytes_per_s},
          {"share_of_read_bandwidth", SpreadJson(share)},
          {"ffn_sparsity", 1 - m.touched.mean_density},
          {"gates_computed", m.touched.mean_gate_density},
          {"recall", m.recall < 0 ? Json(nullptr) : Json(m.recall)},
          {"followed_the_baseline", m.followed},
          {"tokens_compared", m.tokens_compared},
          {"tokens_identical", m.tokens_identical},
          {"mean_kl_nats", m.mean_kl},
          {"first_difference_margins", m.first_difference_margins}};
}

void PrintJson(const Report& report) {
  nlohmann::ordered_json json = {{"model", report.model},
                                 {"threads", report.n_threads},
                                 {"two_tiers", report.two_tiers},
                                 {"hot_share", report.hot_share},
                                 {"read_bandwidth_bytes_per_s", SpreadOf(report.bandwidths).median},
                                 {"modes", nlohmann::ordered_json::array()}};
  if (!report.predictor.empty()) json["predictor"] = report.predictor;
  if (report.requant_error >= 0) json["requantisation_relative_rms_error"] = report.requant_error;
  if (report.stream.possible) json["cold_neurons_of_prompts"] = StreamUseJson(report.stream);
  for (const ModeResult& mode : report.modes)
    json["modes"].push_back(ModeJson(mode, BandwidthShare(report, mode)));
  for (const Roofline& roofline : report.rooflines) {
    json["rooflines"].push_back(RooflineJson(roofline));
  }
  for (const PassReport& steps : report.steps) json["steps"].push_back(PassJson(steps));
  for (const ParallelResult& result : report.parallel) {
    json["parallel"].push_back(ParallelJson(result));
  }
  WriteOutput(json.dump(2) + "\n");
}

void PrintCsv(const Report& report) {
  std::string text =
      "mode,prefill_tokens_per_s,decode_tokens_per_s,decode_p10,decode_p90,speed_up,speed_up_bound,"
      "touched_bytes_per_token,read_bytes_per_s,read_bandwidth_bytes_per_s,ffn_sparsity,"
      "gates_computed,recall,tokens_identical,tokens_compared,mean_kl_nats\n";
  for (const ModeResult& m : report.modes) {
    text += fmt::format(
        "{},{:.3f},{:.3f},{:.3f},{:.3f},{:.4f},{:.4f},{:.0f},{:.0f},{:.0f},{:.5f},{:.5f},{},{},{},"
        "{:.6e}\n",
        SparseModeName(m.mode), m.prefill_tokens_per_s.median, m.decode_tokens_per_s.median,
        m.decode_tokens_per_s.p10, m.decode_tokens_per_s.p90, m.speed_up.median, m.byte_bound,
        m.touched.bytes, m.read_bytes_per_s, SpreadOf(report.bandwidths).median,
        1 - m.touched.mean_density, m.touched.mean_gate_density,
        m.recall < 0 ? "" : fmt::format("{:.5f}", m.recall), m.tokens_identical, m.tokens_compared,
        m.mean_kl);
  }
  WriteOutput(text);
}

// Measures where the time goes in every mode, in runs of their own: where there is a GPU, for the
// report; where a trace is wanted, for that.
void MeasurePassesOf(const std::vector<SparseMode>& modes,
                     const std::vector<std::vector<int32_t>>& prompts, const BenchArgs& options,
                     Engine& engine, TraceFile* trace, Report* report) {
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

void Run(BenchArgs& options) {
  if (options.format == "csv" && (options.roofline || options.engine.n_sequences > 1)) {
    FailUsage("bench", "--roofline and --parallel go with -o table or -o json, not with csv");
  }
  std::optional<TraceFile> trace;
  if (options.trace_path) {
    std::vector<std::string> inputs = InputFiles(options.engine);
    inputs.push_back(options.text_path);
    CheckNotRead(*options.trace_path, inputs);
    trace.emplace(*options.trace_path);
  }
  options.engine.progress = StderrProgress();
  options.comparison.progress = options.engine.progress;
  Engine engine(options.engine);
  if (options.roofline && !engine.model().gpu().empty()) {
    throw Error({.what = "--roofline measures tiers of the CPU, and this run has a GPU",
                 .hint = "leave it out (with a GPU the report has the time of every step), or use "
                         "--fast-tier cpu"});
  }
  const int64_t needed = options.comparison.prompt_tokens + options.comparison.decode_tokens;
  if (needed > engine.context_tokens()) {
    throw Error({.what = "prompt and continuation do not fit the context",
                 .expected = fmt::format("at most {} tokens", engine.context_tokens()),
                 .found = std::to_string(needed),
                 .hint = "lower --prompt-tokens or -n, or raise -c"});
  }
  Report report;
  std::vector<SparseMode> modes = {SparseMode::kDense};
  if (engine.model().mode() != SparseMode::kDense) {
    modes.push_back(SparseMode::kExact);
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
  MeasurePassesOf(modes, prompts, options, engine, trace ? &*trace : nullptr, &report);
  for (size_t m = 0; options.engine.n_sequences > 1 && m < modes.size(); ++m) {
    report.parallel.push_back(MeasureParallel(engine, modes[m], options.engine.n_sequences, prompts,
                                              options.comparison.decode_tokens));
  }
  ClearStderrProgress();
  if (options.format == "json") return PrintJson(report);
  if (options.format == "csv") return PrintCsv(report);
  PrintTable(report);
}

}  // namespace

void AddBenchVerb(CLI::App& app) {
  auto options = std::make_shared<BenchArgs>();
  CLI::App* verb =
      AddVerb(app, "bench", "Compares dense with sparse: speed, bytes and quality", kBenchDetails);
  AddModelOptions(*verb, &options->engine);
  AddEngineOptions(*verb, &options->engine);
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
  AddTraceOption(*verb, &options->trace_path);
  verb->callback([options] { Run(*options); });
}

}  // namespace thermocline
