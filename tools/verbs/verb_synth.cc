// thermocline synth: a model of random weights, to measure with, and what goes with it.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>

#include "profiler/activations/profile_file.h"
#include "profiler/synthetic/synth_predictor.h"
#include "profiler/synthetic/synth_profile.h"
#include "profiler/synthetic/synth_thresholds.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/synth/synth.h"
#include "runtime/threads/processors.h"
#include "tools/reports/predictor_table.h"
#include "tools/reports/synth_report.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/placement_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kSynthDetails =
    R"(Writes a llama-architecture GGUF with random weights. What it generates is noise; its speed and its memory
are those of a real model of that shape, type and sparsity. The same options give the same file. Every shape
of --like is written in the llama layout: grouped-query attention and a gated FFN of three matrices, also
where the model itself has two (opt, falcon), so such a model has more weights here than its name says.

With a ReLU kind about half of the neurons fire; models that were trained are sparser. --density gives the
mean share of a layer's neurons that fire in a token, --skew how unevenly: the probabilities follow a power
law, met by one gate bias per neuron. Which neurons are hot differs from layer to layer. The model is then run
on random tokens and the activity measured is printed beside what was asked; a difference of more than 10 %
in any layer is an error (the file stays). A text is single bytes to such a model, so few different tokens:
on text the density holds, but activity is more uneven than asked.

A random matrix cannot be predicted from less than itself. --gate-rank makes every gate matrix a product
of two factors of that rank, rounded to the weights' type; --predictor writes these factors as a predictor
(kind svd), with operating points measured on random tokens: about the best that this rank can do.

--profile and --placement write what profiling would find in the long run: the wanted probabilities as counts,
and the oracle placement made of them, in the true order from hot to cold.

Examples:
  thermocline synth --like random-1b --type Q4_0 -o random-1b-q4_0.gguf
  thermocline synth --like llama-7b --type Q4_0 --activation relu --density 0.1 --skew 26:80 \
    --gate-rank 128 --predictor s7b.predictor.gguf \
    --profile s7b.profile.gguf --placement s7b.placement.gguf -c 2048 --vram 4G --ram 8G -o s7b.gguf)";

constexpr double kAllowedDeviation = 0.1;

struct SynthArgs {
  SynthOptions synth;
  ActivityTarget activity;
  PlacementArgs placing;
  std::string like, type = "Q8_0", activation = "silu";
  std::string output, profile_path, placement_path, predictor_path, thresholds_path;
  SynthPredictorOptions predictor;
  bool no_check = false;
};

Activation ParseActivation(const std::string& name) {
  if (name == "relu" || name == "reglu") return Activation::kRelu;
  return name == "relu_sqr" ? Activation::kReluSqr : Activation::kSilu;
}

// Reads "26:80" as 0.26 and 0.80.
std::optional<ActivityTarget> ParseSkew(const std::string& text) {
  ActivityTarget target;
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return std::nullopt;
  const auto percent = [](const std::string& number, double* share) {
    const char* end = number.data() + number.size();
    const auto parsed = std::from_chars(number.data(), end, *share, std::chars_format::fixed);
    *share /= 100;
    return parsed.ec == std::errc() && parsed.ptr == end && *share > 0 && *share < 1;
  };
  const bool valid = percent(text.substr(0, colon), &target.hottest) &&
                     percent(text.substr(colon + 1), &target.activations);
  return valid ? std::optional<ActivityTarget>(target) : std::nullopt;
}

void SettleShape(SynthArgs* options, const CLI::App& verb) {
  SynthOptions& synth = options->synth;
  if (options->like.empty()) return;
  const SynthOptions given = synth;
  ApplyShape(options->like, &synth);
  // A dimension given beside --like wins.
  const auto keep = [&](const char* flag, int64_t SynthOptions::*field) {
    if (verb.get_option(flag)->count() > 0) synth.*field = given.*field;
  };
  keep("--n-layers", &SynthOptions::n_layers);
  keep("--d-model", &SynthOptions::d_model);
  keep("--d-ff", &SynthOptions::d_ff);
  keep("--n-heads", &SynthOptions::n_heads);
  keep("--n-kv-heads", &SynthOptions::n_kv_heads);
  keep("--vocab-size", &SynthOptions::vocab_size);
  keep("--max-seq-len", &SynthOptions::max_seq_len);
}

void CheckUsage(const SynthArgs& options, const CLI::App& verb) {
  if (options.synth.activity && options.synth.activation == Activation::kSilu) {
    FailUsage("synth", fmt::format("--density needs an activation that has true zeros: expected "
                                   "--activation relu, reglu or relu_sqr, found {}",
                                   options.activation));
  }
  if (!options.predictor_path.empty() && options.synth.activation == Activation::kSilu) {
    FailUsage("synth", fmt::format("--predictor needs an activation that has true zeros: expected "
                                   "--activation relu, reglu or relu_sqr, found {}",
                                   options.activation));
  }
  const bool placing = !options.placement_path.empty();
  if (placing != options.placing.wants_placement()) {
    FailUsage("synth", placing
                           ? "--placement needs to know how much may lie in the fast tier: give "
                             "--vram SIZE (or --hot SHARE)"
                           : "--vram and --hot are for a placement: give --placement FILE");
  }
  if (placing) return;
  for (const char* flag : {"--ram", "--context", "--batch"}) {
    if (verb.get_option(flag)->count() == 0) continue;
    FailUsage("synth", fmt::format("{} is for a placement: give --placement FILE", flag));
  }
}

void CheckPaths(const SynthArgs& options) {
  CheckRereadOutputPath(options.output, {});
  std::vector<std::string> taken = {options.output};
  for (const std::string& path : {options.profile_path, options.placement_path,
                                  options.predictor_path, options.thresholds_path}) {
    if (path.empty()) continue;
    if (std::find(taken.begin(), taken.end(), path) != taken.end()) {
      FailUsage("synth", fmt::format("two outputs have one name, {}", path));
    }
    CheckOutputPath(path, {});
    taken.push_back(path);
  }
}

std::string ModelLine(const SynthArgs& options) {
  const SynthOptions& synth = options.synth;
  const GgufReader written(options.output);
  uint64_t weights = 0;
  for (const GgufTensorInfo& tensor : written.tensors()) weights += tensor.n_elements;
  return fmt::format("{}: {} layers, d_model {}, d_ff {}, {:.3f}B weights in {}, {}\n",
                     options.output, synth.n_layers, synth.d_model, synth.d_ff,
                     static_cast<double>(weights) / 1e9, DTypeName(synth.dtype),
                     FormatBytes(written.file_bytes()));
}

// Writes the profile before the placement, so that where budgets do not fit `place` can go on.
void WriteCompanions(SynthArgs& options) {
  if (options.profile_path.empty() && options.placement_path.empty()) return;
  options.placing.engine.model_path = options.output;
  const OpenedModel model(options.placing.engine);
  const ProfileStats stats = WantedStats(model, options.synth);
  if (!options.profile_path.empty()) {
    WriteProfile(options.profile_path, stats);
    WriteOutput(fmt::format("profile: {} (counts as of {} tokens; none was run)\n",
                            options.profile_path, kNominalTokens));
  }
  if (options.placement_path.empty()) return;
  WriteOutput(SettleBudgets(&options.placing) +
              SettleRates(model, /*needed=*/false, &options.placing));
  const SolvedPlacement solved = SolvePlacement(model, stats, options.placing);
  WritePlacement(options.placement_path, solved.placement);
  WriteOutput(fmt::format("placement: {} (vram {}, dram {})\n", options.placement_path,
                          FormatBytes(solved.plan.total_bytes(0)),
                          FormatBytes(solved.plan.total_bytes(1))));
}

void WriteFactors(const SynthArgs& options) {
  if (options.predictor_path.empty()) return;
  SynthPredictorOptions predictor = options.predictor;
  predictor.n_threads = options.synth.n_threads;
  predictor.progress = options.synth.progress;
  const PredictorFile file = BuildSynthPredictor(options.output, options.synth, predictor);
  WritePredictor(options.predictor_path, file);
  ClearStderrProgress();
  WriteOutput(PredictorReport(options.predictor_path, file));
}

void WriteThresholdProfile(const SynthArgs& options) {
  if (options.thresholds_path.empty()) return;
  const ProfileStats stats =
      MeasureThresholds(options.output, options.synth, options.synth.progress);
  WriteProfile(options.thresholds_path, stats);
  ClearStderrProgress();
  WriteOutput(fmt::format("thresholds: {} ({} random tokens)\n", options.thresholds_path,
                          stats.thresholds->n_tokens));
}

void Check(const SynthArgs& options) {
  const ActivityTarget& target = *options.synth.activity;
  ActivityCheckOptions check;
  check.n_threads = options.synth.n_threads;
  check.progress = options.synth.progress;
  const ActivityCheck measured = MeasureActivity(options.output, options.synth, check);
  ClearStderrProgress();
  WriteOutput(ActivityTable(target, measured));
  const double deviation = measured.Deviation(target);
  if (deviation <= kAllowedDeviation) return;
  throw Error({.path = options.output,
               .what = "the activity measured is not what was asked for",
               .expected = fmt::format("within {:g} % in every layer", 100 * kAllowedDeviation),
               .found = fmt::format("{:.1f} % off", 100 * deviation),
               .hint = "the files were written, but a profile or placement describes what was asked"
                       "; a larger --d-model, --d-ff or --vocab-size comes closer"});
}

void Run(SynthArgs& options, const CLI::App& verb) {
  SynthOptions& synth = options.synth;
  SettleShape(&options, verb);
  const auto dtype = ParseWeightDType(options.type);
  if (!dtype || !GetWeightTypeInfo(*dtype).written) {
    throw Error({.what = "--type", .expected = WrittenDTypeNames(), .found = options.type});
  }
  synth.dtype = *dtype;
  synth.activation = ParseActivation(options.activation);
  if (verb.get_option("--density")->count() > 0) synth.activity = options.activity;
  CheckUsage(options, verb);
  CheckPaths(options);
  if (synth.n_threads == 0) synth.n_threads = DefaultThreadCount();
  options.placing.engine.n_threads = synth.n_threads;
  synth.progress = StderrProgress();
  WriteSynthModel(options.output, synth);
  ClearStderrProgress();
  WriteOutput(ModelLine(options));
  WriteCompanions(options);
  WriteFactors(options);
  WriteThresholdProfile(options);
  if (synth.activity && !options.no_check) Check(options);
}

void AddShapeOptions(CLI::App& verb, SynthArgs* options) {
  SynthOptions& s = options->synth;
  verb.add_option("--like", options->like, "shape of a known model: " + ShapeNames());
  const auto dimension = [&](const char* flag, int64_t* value, int64_t least, int64_t most,
                             const char* help) {
    AddNumberOption(verb, flag, value, {.least = least, .most = most},
                    fmt::format("{} (default {})", help, *value));
  };
  constexpr int64_t kMaxWidth = 1 << 20;
  dimension("--n-layers", &s.n_layers, 1, 4096, "layers");
  dimension("--d-model", &s.d_model, 32, kMaxWidth, "width");
  dimension("--d-ff", &s.d_ff, 32, kMaxWidth, "FFN neurons per layer");
  dimension("--n-heads", &s.n_heads, 1, kMaxWidth, "query heads");
  dimension("--n-kv-heads", &s.n_kv_heads, 1, kMaxWidth, "KV heads");
  dimension("--vocab-size", &s.vocab_size, 260, 1 << 24, "vocabulary");
  dimension("--max-seq-len", &s.max_seq_len, 1, kMaxTokensFlag, "context in tokens");
  dimension("--window", &s.window, 0, kMaxTokensFlag,
            "positions that layers see, their own included; 0: all before");
  dimension("--window-pattern", &s.window_pattern, 0, 4096,
            "with --window: every nth layer sees all positions; 0: none does");
  verb.add_option("--type", options->type,
                  "weight type: " + WrittenDTypeNames() + " (default Q8_0)");
  verb.add_option("--activation", options->activation,
                  "silu, relu, reglu or relu_sqr (default silu)")
      ->check(CLI::IsMember({"silu", "relu", "reglu", "relu_sqr"}));
  AddNumberOption(verb, "--seed", &s.seed, {}, "seed of the weights (default 1)");
}

void AddFactorOptions(CLI::App& verb, SynthArgs* options) {
  CLI::Option* rank = AddNumberOption(
      verb, "--gate-rank", &options->synth.gate_rank, {.least = 1, .most = int64_t{1} << 20},
      "rank of every gate matrix, a multiple of 32 (default: full)");
  CLI::Option* predictor = verb.add_option("--predictor", options->predictor_path,
                                           "predictor to write, of the gates' factors")
                               ->type_name("FILE")
                               ->needs(rank);
  AddFactorTypeOption(verb, "--predictor-type", &options->predictor.dtype)->needs(predictor);
}

void AddActivityOptions(CLI::App& verb, SynthArgs* options) {
  ActivityTarget* activity = &options->activity;
  CLI::Option* density = AddShareOption(
      verb, "--density", &activity->density,
      "mean share of a layer's neurons that fire in a token, 0.1 or 10% (default: no biases, about "
      "half fire)");
  const auto parse = [activity](const CLI::results_t& values) {
    const auto skew = ParseSkew(values.back());
    if (skew) activity->hottest = skew->hottest;
    if (skew) activity->activations = skew->activations;
    return skew.has_value();
  };
  const auto check = [](const std::string& text) {
    return ParseSkew(text) ? std::string()
                           : fmt::format(
                                 "'{}' is no skew; write 26:80, two shares in percent "
                                 "between 0 and 100",
                                 Printable(text));
  };
  verb.add_option(
          "--skew", parse,
          fmt::format("written X:Y: the hottest X % of the neurons take Y % of the activations "
                      "(default {:g}:{:g})",
                      100 * activity->hottest, 100 * activity->activations))
      ->type_name("SKEW")
      ->check(CLI::Validator(check, ""))
      ->needs(density);
  verb.add_flag("--no-check", options->no_check, "do not run the model to measure its activity")
      ->needs(density);
  verb.add_option("--profile", options->profile_path,
                  "statistics file to write (.profile.gguf), with the wanted activity")
      ->type_name("FILE")
      ->needs(density);
  verb.add_option("--placement", options->placement_path,
                  "oracle placement to write (.placement.gguf), for --vram and --ram")
      ->type_name("FILE")
      ->needs(density);
}

}  // namespace

void AddSynthVerb(CLI::App& app) {
  auto options = std::make_shared<SynthArgs>();
  options->synth.n_threads = 0;
  CLI::App* verb =
      AddVerb(app, "synth", "Writes a model of random weights, to measure with", kSynthDetails);
  AddShapeOptions(*verb, options.get());
  AddActivityOptions(*verb, options.get());
  AddFactorOptions(*verb, options.get());
  verb->add_option("--thresholds", options->thresholds_path,
                   "statistics file to write (.profile.gguf), with thresholds for --sparse "
                   "METHOD:SHARE, measured with random tokens")
      ->type_name("FILE");
  AddBudgetOptions(*verb, &options->placing);
  AddThreadsOption(*verb, &options->synth.n_threads);
  verb->add_option("-o,--output", options->output, "file to write")->required()->type_name("FILE");
  verb->callback([options, verb] { Run(*options, *verb); });
}

}  // namespace thermocline
