#include "tools/verbs/bench_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/core/error.h"
#include "tools/bench/serve_replay.h"
#include "tools/reports/serve_report.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"

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
  AddNumberOption(*serve, "--shared-tokens", &args->shape.shared_tokens, {.least = 0},
                  "How many first tokens all prompts have in common (default 0)");
  AddNumberOption(*serve, "--rate", &args->shape.requests_per_s, {.least = 0},
                  "Requests per second on average, at random intervals; 0 (the default): all at "
                  "once");
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
  run.engine.progress = StderrProgress();
  auto model = std::make_unique<OpenedModel>(run.engine);
  RequireNoEncoder(model->config(), run.engine.model_path, "a bench");
  CheckTraceFits(trace, model->context_tokens());
  std::optional<Drafting> drafting;
  if (run.draft.kind != DraftKind::kNone) drafting.emplace(run.draft, *model);
  Engine engine(std::move(model));
  const ServeBounds bounds{args.ttft_bound_ms, args.gap_bound_ms};
  ScheduleOptions options{.n_slots = static_cast<int32_t>(run.engine.n_sequences)};
  if (drafting) options.speculator = &drafting->speculator();
  const ServeReport report{
      .model = engine.config().name.empty() ? run.engine.model_path : engine.config().name,
      .n_threads = engine.model().n_threads(),
      .bounds = bounds,
      .result = ReplayServe(engine, options, trace, bounds, run.engine.progress)};
  ClearStderrProgress();
  if (!run.report_path.empty()) WritePage(run.report_path, ServePage(report));
  WriteOutput(run.format == "json" ? ServeJson(report) : ServeTable(report));
}

}  // namespace thermocline
