#include "tools/verbs/cli_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/core/size_text.h"
#include "runtime/threads/processors.h"
#include "tools/reports/messages.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/number_option.h"

namespace thermocline {
namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted, "
    "143 terminated.";

// Options of several letters behind one dash, which CLI11 does not take, and what they are called.
constexpr std::pair<std::string_view, std::string_view> kShortSpellings[] = {
    {"-ngl", "--gpu-layers"},        {"-md", "--draft-model"}, {"-sys", "--system"},
    {"-jf", "--json-schema-file"},   {"-np", "--parallel"},    {"-cb", "--cont-batching"},
    {"-nocb", "--no-cont-batching"}, {"-kvu", "--kv-unified"}, {"-to", "--timeout"},
};

// Reads "0.1" or "10%" as 0.1. Returns nullopt for anything else, and outside 0 to 1.
std::optional<double> ParseFraction(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (parsed.ec != std::errc()) return std::nullopt;
  const std::string unit(parsed.ptr, end);
  if (unit == "%") value /= 100;
  const bool valid = (unit.empty() || unit == "%") && value >= 0 && value <= 1;
  return valid ? std::optional<double>(value) : std::nullopt;
}

// Splits "FILE:0.5" at the last colon where a number follows it; a path may have others.
LoraOption ParseLora(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return {text};
  double scale = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, scale);
  if (parsed.ec != std::errc() || parsed.ptr != end || colon + 1 == text.size()) return {text};
  return {text.substr(0, colon), scale};
}

// Warns of more threads than processors. They are obeyed, and not silently: they wait for each
// other at every op.
void WarnOfCrowding(int n_threads) {
  const auto n_processors = static_cast<int>(ThreadCpus().size());
  if (n_processors == 0 || n_threads <= n_processors) return;
  PrintNote(
      fmt::format("thermocline: warning: {} threads on {} processor{} are much slower than -t {}\n",
                  n_threads, n_processors, n_processors == 1 ? "" : "s", n_processors));
}

}  // namespace

CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& summary,
                  const std::string& details) {
  CLI::App* verb = app.add_subcommand(name, summary);
  verb->footer(details + "\n\n" + kExitCodes);
  verb->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  return verb;
}

CLI::Option* AddSizeOption(CLI::App& verb, const std::string& flags, uint64_t* n_bytes,
                           const std::string& help) {
  const auto parse = [n_bytes](const CLI::results_t& values) {
    const auto size = ParseSize(values.back());
    if (size) *n_bytes = *size;
    return size.has_value();
  };
  const auto check = [](const std::string& text) {
    return ParseSize(text)
               ? std::string()
               : fmt::format("'{}' is not a size; write 8G, 512M or 1.5G", Printable(text));
  };
  return verb.add_option(flags, parse, help)->type_name("SIZE")->check(CLI::Validator(check, ""));
}

CLI::Option* AddSizeOrAutoOption(CLI::App& verb, const std::string& flags, uint64_t* n_bytes,
                                 bool* automatic, const std::string& help) {
  const auto parse = [n_bytes, automatic](const CLI::results_t& values) {
    const auto size = ParseSize(values.back());
    if (size) *n_bytes = *size;
    *automatic = !size;
    return true;
  };
  const auto check = [](const std::string& text) {
    return text == "auto" || ParseSize(text)
               ? std::string()
               : fmt::format("'{}' is not a size; write 8G, 512M, 1.5G or auto", Printable(text));
  };
  return verb.add_option(flags, parse, help)
      ->type_name("SIZE|auto")
      ->check(CLI::Validator(check, ""));
}

CLI::Option* AddShareOption(CLI::App& verb, const std::string& flags, double* share,
                            const std::string& help) {
  const auto parse = [share](const CLI::results_t& values) {
    const auto value = ParseFraction(values.back());
    if (value) *share = *value;
    return value.has_value();
  };
  const auto check = [](const std::string& text) {
    return ParseFraction(text)
               ? std::string()
               : fmt::format("'{}' is not a share; write 0.1 or 10%, from 0 to 1", Printable(text));
  };
  return verb.add_option(flags, parse, help)->type_name("SHARE")->check(CLI::Validator(check, ""));
}

void AddModelOptions(CLI::App& verb, EngineOptions* options) {
  verb.add_option("-m,--model", options->model_path, "GGUF model; of a split one, any of its files")
      ->required()
      ->type_name("FILE");
  verb.add_option("--placement", options->placement_path,
                  "Placement file: which neurons lie in which tier (made by `profile` or `place`); "
                  "without it all lie in one")
      ->type_name("FILE");
}

CLI::Option* AddThreadsOption(CLI::App& verb, int* n_threads) {
  const auto take = [n_threads](int n) {
    *n_threads = n;
    WarnOfCrowding(n);
  };
  return AddNumberFunction<int>(verb, "-t,--threads", take, {.least = 0, .most = 1024},
                                "Threads; 0 (the default): one per physical core, as far as "
                                "a CPU quota goes");
}

void AddPinOption(CLI::App& verb, EngineOptions* options) {
  const auto choose_pinning = [options](const std::string& name) {
    if (name == "on") options->pinning = Pinning::kOn;
    if (name == "off") options->pinning = Pinning::kOff;
  };
  verb.add_option_function<std::string>(
          "--pin", choose_pinning,
          "Whether each thread keeps to a physical core of its own: on, off, auto (the default: on "
          "where there is a thread for every core and the process may use them all)")
      ->type_name("auto|on|off")
      ->check(CLI::IsMember({"auto", "on", "off"}));
}

namespace {

void AddSlowTierOption(CLI::App& verb, EngineOptions* options) {
  AddNumberFunction<double>(
      verb, "--slow-tier-limit",
      [options](double gb_per_s) {
        options->slow_tier_bytes_per_s = gb_per_s * 1e9;
        PrintNote("thermocline: " + SlowTierNote(options->slow_tier_bytes_per_s) + "\n");
      },
      {.least = 0, .most = 1e6, .above = true},
      "GB/s that the slow tier gives at most, as if its memory were slower: to rehearse the ratio "
      "between another machine's tiers, with a placement. Said in every output");
}

void AddGpuStreamOption(CLI::App& verb, EngineOptions* options) {
  const auto choose = [options](const std::string& name) {
    if (name == "on") options->gpu_stream = StreamCold::kOn;
    if (name == "off") options->gpu_stream = StreamCold::kOff;
  };
  verb.add_option_function<std::string>(
          "--gpu-stream", choose,
          "Of prompts, with a GPU: whether the weights of neurons it does not hold are streamed to "
          "it (on) or left to the CPU (off); auto (the default): as rates measured at the start "
          "say, which near the crossing may differ from run to run")
      ->type_name("auto|on|off")
      ->check(CLI::IsMember({"auto", "on", "off"}));
}

void AddDownTypeOption(CLI::App& verb, EngineOptions* options) {
  const auto choose = [options](const std::string& name) {
    options->down_type = ParseWeightDType(name);
  };
  const auto check = [](const std::string& name) {
    const auto dtype = ParseWeightDType(name);
    return dtype && GetWeightTypeInfo(*dtype).written
               ? std::string()
               : fmt::format("'{}' is no type that can be written; those are {}", Printable(name),
                             WrittenDTypeNames());
  };
  verb.add_option_function<std::string>(
          "--down-type", choose,
          "Type of the down projections where they are stored with a row per neuron and the file "
          "has columns (default: one that adds less than a tenth to the error of the file's type; "
          "Q8_0, Q4_1, Q4_0 and floats stay as they are; --dry-run shows it)")
      ->type_name("TYPE")
      ->check(CLI::Validator(check, ""));
}

}  // namespace

namespace {

std::string CheckSparseMode(const std::string& name) {
  constexpr std::string_view kPlain[] = {"auto", "dense", "exact", "predicted"};
  if (std::ranges::find(kPlain, name) != std::end(kPlain)) return "";
  // What the model allows is checked when it is open.
  try {
    if (ParseThresholdChoice(name, /*has_true_zeros=*/true, "")) return "";
  } catch (const Error& error) {
    return fmt::format("'{}' is no mode: expected {}", Printable(name), error.info().expected);
  }
  return fmt::format("'{}' is no mode; those are auto, dense, exact, predicted and METHOD:SHARE",
                     Printable(name));
}

void AddThresholdSplitOption(CLI::App& verb, EngineOptions* options) {
  const auto choose = [options](const std::string& name) {
    for (size_t i = 0; i < kThresholdSplits; ++i) {
      const auto split = static_cast<ThresholdSplit>(i);
      if (name == ThresholdSplitName(split)) options->threshold_split = split;
    }
  };
  verb.add_option_function<std::string>(
          "--threshold-split", choose,
          "How the share of teal and wina is split: uniform (the same of every matrix), block (by "
          "what a layer's output suffers), layers (also across layers), auto (the default: what "
          "was "
          "best when the thresholds were made)")
      ->type_name("auto|uniform|block|layers")
      ->check(CLI::IsMember({"auto", "uniform", "block", "layers"}));
}

}  // namespace

void AddEngineOptions(CLI::App& verb, EngineOptions* options) {
  verb.add_option(
          "--sparse", options->sparse,
          "Which neurons are computed: dense (all), exact (skips those whose gate is 0; the same "
          "text as dense), predicted (only those a predictor names, without asking for hot ones; "
          "not the same text), auto (the default: exact where the model's activation has true "
          "zeros, else dense; predicted where --predictor is given). Any model, with --thresholds: "
          "METHOD:SHARE skips that share of the weights (up to 0.9) whose inputs are small, as "
          "teal:0.4, "
          "wina:0.4, or of neurons whose gates are small, cats:0.5, neurons:0.5; in attention "
          "alone "
          "exact+teal:0.4 (or dense+, predicted+). Not the same text: see the perplexity it costs, "
          "and know that reasoning suffers first")
      ->type_name("MODE")
      ->check(CLI::Validator(CheckSparseMode, ""));
  verb.add_option("--thresholds", options->thresholds_path,
                  "Profile that was made with --thresholds, for the modes METHOD:SHARE")
      ->type_name("FILE");
  AddThresholdSplitOption(verb, options);
  verb.add_flag(
      "--columns", options->by_column,
      "With teal and wina: store matrices by column, so that what is skipped is not read. "
      "Takes memory of their own, and rounds weights once more (--down-type)");
  verb.add_option(
          "--predictor", options->predictor,
          "Which neurons will fire: a file made by `predictor`, or `sign` for the sign bits "
          "of the gates, which need no file (a file of that name is ./sign); PowerInfer's "
          "models bring their own")
      ->type_name("FILE|sign");
  AddShareOption(verb, "--predictor-recall", &options->predictor_recall,
                 fmt::format("Share of the active neurons to predict; each layer takes the least "
                             "dense setting that reached it on held-out text (default {})",
                             kDefaultPredictorRecall));
  AddThreadsOption(verb, &options->n_threads);
  AddPinOption(verb, options);
  AddNumberOption(verb, "-c,--context,--ctx-size", &options->context_tokens,
                  {.least = 0, .most = kMaxTokensFlag},
                  fmt::format("Context in tokens, prompt and reply together; 0 (the default): the "
                              "model's own, at most {}",
                              kDefaultContext));
  AddNumberOption(verb, "-b,--batch,--batch-size", &options->batch_tokens,
                  {.least = 1, .most = kMaxTokensFlag},
                  fmt::format("Prompt tokens per pass (default {})", options->batch_tokens));
  const auto choose_cache = [options](const std::string& name) {
    options->cache_type = name == "f32" ? DType::kF32 : name == "f16" ? DType::kF16 : DType::kQ8_0;
  };
  verb.add_option_function<std::string>(
          "--cache-type", choose_cache,
          "Type of the stored keys and values: f16 (the default); q8_0, which takes and reads "
          "about "
          "half and rounds them to 8 bit; or f32, which rounds nothing, on the CPU")
      ->type_name("f32|f16|q8_0")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}));
  const auto choose_activations = [options](const std::string& bits) {
    options->activation_bits = bits == "16" ? 16 : 8;
  };
  verb.add_option_function<std::string>(
          "--activations", choose_activations,
          "Bits of the activations that quantised weights are multiplied by: 8 (the default), or "
          "16, on the CPU, which follows the weights more closely and is slower")
      ->type_name("8|16")
      ->check(CLI::IsMember({"8", "16"}));
  verb.add_flag("--swa-full", options->keep_all_kv,
                "Keep the keys and values of all positions also for layers that see a window: more "
                "memory, and any rollback of a chat is read from the cache");
  verb.add_flag(
      "--no-mmap", options->copy_weights,
      "Copy the weights into memory of their own (huge pages) instead of reading them from "
      "the mapped file: faster decode, slower start, the file's pages beside it");
  verb.add_flag("--overcommit", options->overcommit,
                "Run although the plan takes more memory than there is: what does not fit is read "
                "from the file again and again");
  const auto want_gpu = [options](int64_t n_layers) {
    if (n_layers < 0) return;
    options->fast_tier = n_layers > 0 ? FastTier::kGpu : FastTier::kCpu;
    options->gpu_layers = n_layers;
  };
  AddNumberFunction<int64_t>(verb, "--gpu-layers,--n-gpu-layers", want_gpu,
                             {.least = -1, .most = kMaxTokensFlag},
                             "Also written -ngl. Of how many layers the neurons lie on the GPU, "
                             "where no placement says it (default: as many as fit; 0: no GPU). N > "
                             "0 is an error where none can be used");
  const auto choose_tier = [options](const std::string& name) {
    if (name == "gpu") options->fast_tier = FastTier::kGpu;
    if (name == "cpu") options->fast_tier = FastTier::kCpu;
  };
  verb.add_option_function<std::string>(
          "--fast-tier", choose_tier,
          "What the fast tier is: gpu (an error where none can be used), cpu (a second CPU device "
          "stands in for it), auto (the default: gpu where there is one)")
      ->type_name("auto|cpu|gpu")
      ->check(CLI::IsMember({"auto", "cpu", "gpu"}));
  AddSlowTierOption(verb, options);
  AddGpuStreamOption(verb, options);
  AddDownTypeOption(verb, options);
}

void AddAdaptOption(CLI::App& verb, Adapt usual, EngineOptions* options) {
  options->adapt = usual;
  const auto choose = [options](const std::string& name) {
    options->adapt = name == "on" ? Adapt::kOn : name == "off" ? Adapt::kOff : Adapt::kAuto;
  };
  const bool automatic = usual == Adapt::kAuto;
  verb.add_option_function<std::string>(
          "--adapt", choose,
          fmt::format(
              "With a placement, in modes exact and predicted: whether neurons change tiers while "
              "the model runs, so that those on the fast tier are the ones the text at hand needs; "
              "auto{}: where the fast tier is a GPU and the copies pay; off{}. Moving changes the "
              "order of sums, and with it text at near-ties",
              automatic ? " (the default)" : "", automatic ? "" : " (the default)"))
      ->type_name("auto|on|off")
      ->check(CLI::IsMember({"auto", "on", "off"}));
}

void AddLoraOption(CLI::App& verb, EngineOptions* options) {
  const auto add = [options](const CLI::results_t& values) {
    for (const std::string& value : values) options->loras.push_back(ParseLora(value));
    return true;
  };
  verb.add_option("--lora", add,
                  "LoRA adapter of the model: a GGUF, or a directory as PEFT saves it; with a "
                  "number behind a colon, its products are multiplied by that. May be given more "
                  "than once; all are added. On the CPU")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

CLI::Option* AddReportOption(CLI::App& verb, std::string* path, const std::string& shows) {
  return verb
      .add_option(
          "--report", *path,
          "Also write a page with pictures, one HTML file that needs nothing else: " + shows)
      ->type_name("FILE");
}

void AddTraceOption(CLI::App& verb, std::optional<std::string>* path) {
  verb.add_option("--trace", *path,
                  "Write a timeline of the passes to this file, for chrome://tracing or "
                  "ui.perfetto.dev: what each CPU thread and the GPU did, layer by layer, and "
                  "where they waited. Measuring costs a little speed")
      ->type_name("FILE");
}

std::vector<std::string> NormaliseArguments(int argc, char** argv) {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto* row = std::find_if(std::begin(kShortSpellings), std::end(kShortSpellings),
                                   [&](const auto& each) { return each.first == argument; });
    arguments.push_back(row == std::end(kShortSpellings) ? argument : std::string(row->second));
  }
  return arguments;
}

void FailUsage(const std::string& verb, const std::string& message) {
  throw CLI::ParseError(verb + ": " + message, CLI::ExitCodes::ValidationError);
}

std::string ReadTextFile(const std::string& path, uint64_t max_bytes) {
  const bool from_stdin = path == "-";
  const auto close = [&](std::FILE* file) { return from_stdin ? 0 : std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(
      from_stdin ? stdin : std::fopen(path.c_str(), "rb"), close);
  std::string text;
  while (file != nullptr) {
    char bytes[4096];
    const size_t n = std::fread(bytes, 1, sizeof(bytes), file.get());
    text.append(bytes, n);
    ThrowIfInterrupted();
    if (n == 0) break;
    if (text.size() <= max_bytes) continue;
    throw Error({.path = from_stdin ? "standard input" : path,
                 .what = "the text is too long",
                 .expected = "at most " + FormatBytes(max_bytes),
                 .found = "more",
                 .hint = "give a shorter text"});
  }
  if (file == nullptr || std::ferror(file.get()) != 0) {
    throw Error({.path = from_stdin ? "standard input" : path,
                 .what = std::string("cannot read: ") + std::strerror(errno)});
  }
  return text;
}

void WriteOutput(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return;
  throw Error(
      {.path = "standard output", .what = std::string("cannot write: ") + std::strerror(errno)});
}

}  // namespace thermocline
