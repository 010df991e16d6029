#include "tools/verbs/bench_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/core/error.h"
#include "tools/bench/serve_replay.h"
#include "tools/bench/serve_url.h"
#include "tools/reports/serve_report.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/placement_options.h"

namespace thermocline {
namespace {

constexpr const char* kBenchServeDetails =
    "Sends requests to a scheduler in this process, each when it arrives, and prints how long "
    "their\n"
    "tokens take. The requests are those of a file, an object a line:\n"
    "  {\"arrival_ms\": 0, \"prompt_tokens\": 256, \"max_tokens\": 128}\n"
    "and, where prompts share a beginning, \"shared_tokens\": 200 and \"group\": \"a name\". "
    "Without a\n"
    "file they are --prompts requests of --prompt-tokens tokens with replies of -n tokens, all at\n"
    "once or at random intervals. Prompts are random tokens. All options of bench that say how "
    "the\n"
    "model is run hold; --parallel is how many texts are written at a time (default 8).\n"
    "\n"
    "Example:\n"
    "  thermocline bench serve -m model.gguf --prompts 32 --prompt-tokens 256 -n 128 --rate 2";

void CheckTraceFits(const std::vector<ServedRequest>& trace, int64_t context_tokens) {
  for (const ServedRequest& request : trace) {
    const int64_t needed = request.prompt_tokens + request.max_tokens;
    if (needed <= context_tokens) continue;
    throw Error({.what = "a prompt and its reply do not fit the context",
                 .expected = fmt::format("at most {} tokens", context_tokens),
                 .found = std::to_string(needed),
                 .hint = "shorten them or raise the context size",
                 .settings = {{Setting::kContextSize}}});
  }
}

ServeReport AskServer(const BenchServeArgs& args, const std::vector<ServedRequest>& trace,
                      const ServeBounds& bounds) {
  const HttpUrl url = ParseUrl(args.url);
  const UrlModel model = AskForModel(url, args.api_key);
  return {.model = model.name,
          .url = args.url,
          .bounds = bounds,
          .result = ReplayUrl(url, args.api_key, model, trace, bounds, StderrProgress())};
}

void Print(const BenchServeRun& run, const ServeReport& report) {
  ClearStderrProgress();
  if (!run.report_path.empty()) WritePage(run.report_path, ServePage(report));
  WriteOutput(run.format == "json" ? ServeJson(report) : ServeTable(report));
}

}  // namespace

CLI::App* AddBenchServe(CLI::App& bench, BenchServeArgs* args) {
  CLI::App* serve =
      bench.add_subcommand("serve",
                           "Replays requests: time to the first token, between tokens, "
                           "goodput");
  serve->footer(kBenchServeDetails);
  serve->fallthrough();
  serve->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  serve->add_option("--requests", args->trace_path, "File with the requests")->type_name("FILE");
  serve
      ->add_option("--url", args->url,
                   "Ask the server there, http://HOST:PORT, in place of a scheduler in this "
                   "process: no model is opened, and only the times are known. It must take ids "
                   "as prompts at /v1/completions and tell n_vocab at /v1/models")
      ->type_name("URL");
  serve->add_option("--api-key", args->api_key, "Key that the server wants")->type_name("KEY");
  AddNumberOption(*serve, "--shared-tokens", &args->shape.shared_tokens, {.least = 0},
                  "How many first tokens all prompts have in common (default 0)");
  AddNumberOption(*serve, "--rate", &args->shape.requests_per_s, {.least = 0},
                  "Requests per second on average, at random intervals; 0 (the default): all at "
                  "once");
  AddSizeOption(*serve, "--kv-host", &args->schedule.kv_host_bytes,
                "Memory of the host for cold pages of the KV cache (default none)");
  serve->add_flag_callback(
      "--no-prefix-cache", [args] { args->schedule.keeps_prefixes = false; },
      "Texts begin with nothing of those before them, and share no pages");
  AddNumberOption(*serve, "--kv-tokens", &args->kv_tokens, {.least = 1},
                  "Tokens that the KV cache has room for, all texts together (default: a context "
                  "for each)");
  AddNumberOption(*serve, "--seed", &args->shape.seed, {}, "Of the intervals (default 1)");
  AddNumberOption(*serve, "--ttft-bound", &args->ttft_bound_ms, {.least = 0},
                  "Goodput counts requests whose first token comes within so many ms; 0 (the "
                  "default): any");
  AddNumberOption(*serve, "--gap-bound", &args->gap_bound_ms, {.least = 0},
                  "and whose tokens all come within so many ms behind the last; 0 (the default): "
                  "any");
  return serve;
}

void RunBenchServe(BenchServeRun run, const BenchServeArgs& args) {
  if (run.format == "csv") FailUsage("bench", "bench serve prints a table or json, not csv");
  if (args.shape.shared_tokens > args.shape.prompt_tokens) {
    FailUsage("bench", "--shared-tokens is at most --prompt-tokens");
  }
  if (!run.report_path.empty()) {
    std::vector<std::string> inputs = InputFiles(run.engine);
    inputs.push_back(args.trace_path);
    CheckOutputPath(run.report_path, inputs);
  }
  const std::vector<ServedRequest> trace =
      args.trace_path.empty() ? MakeServeTrace(args.shape)
                              : ParseServeTrace(ReadTextFile(args.trace_path), args.trace_path);
  const ServeBounds bounds{args.ttft_bound_ms, args.gap_bound_ms};
  if (!args.url.empty()) return Print(run, AskServer(args, trace, bounds));
  run.engine.kv_tokens = args.kv_tokens;
  run.engine.progress = StderrProgress();
  auto model = std::make_unique<OpenedModel>(run.engine);
  RequireNoEncoder(model->config(), run.engine.model_path, "a bench");
  CheckTraceFits(trace, model->context_tokens());
  ScheduleOptions options = args.schedule;
  options.rates = RatesForBatches(*model, run.rates_path);
  options.n_slots = static_cast<int32_t>(run.engine.n_sequences);
  std::optional<Drafting> drafting;
  if (run.draft.kind != DraftKind::kNone) drafting.emplace(run.draft, *model);
  if (drafting) options.speculator = &drafting->speculator();
  Engine engine(std::move(model));
  engine.WarmUp();
  const ServeReport report{
      .model = engine.config().name.empty() ? run.engine.model_path : engine.config().name,
      .n_threads = engine.model().n_threads(),
      .bounds = bounds,
      .result = ReplayServe(engine, options, trace, bounds, run.engine.progress)};
  Print(run, report);
}

}  // namespace thermocline
