#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <random>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/engine/generate.h"
#include "tools/reports/messages.h"
#include "tools/reports/plan_table.h"
#include "tools/reports/run_summary.h"
#include "tools/reports/trace_file.h"
#include "tools/terminal/chat_session.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kRunDetails =
    R"(The prompt is continued as plain text: no chat template is applied. The model's text goes to stdout as it
is made, everything else to stderr; when stdout is a terminal the prompt is printed before its
continuation. It ends where the model ends the text, after -n tokens, or when the context is full.
Ctrl-C stops the reply and prints the summary; a second one leaves at once.

With -i the session goes on: each line typed is appended to the text so far and the model continues from
there. /reset forgets the text, /help lists the commands, /exit or Ctrl-D leaves; Ctrl-C stops a reply and
returns to the prompt, and leaves at the prompt. On a terminal lines can be edited and recalled.

--dry-run prints what the run would hold in memory (weights, KV cache, scratch; per tier and layer) and
loads nothing.

Examples:
  thermocline run -m model.gguf -p "Once upon a time" --temp 0 -n 40
  thermocline run -m model.gguf --placement model.placement.gguf -f story.txt -n -1
  thermocline run -m model.gguf -i
  thermocline run -m model.gguf --placement model.placement.gguf --dry-run)";

struct RunArgs {
  EngineOptions engine;
  SamplerOptions sampling;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_path;
  std::optional<std::string> trace_path;
  int64_t max_tokens = 128;
  int64_t seed = -1;
  bool interactive = false;
  bool dry_run = false;
  bool json = false;
  bool verbose = false;
};

void CheckUsage(const RunArgs& args) {
  if (args.json && !args.dry_run) FailUsage("run", "--json goes with --dry-run");
  if (args.trace_path && args.dry_run) {
    FailUsage("run", "--trace needs a run, and --dry-run runs nothing");
  }
  if (!args.prompt && !args.prompt_path && !args.interactive && !args.dry_run) {
    FailUsage("run", "what should it continue? Give -p TEXT, -f FILE or -i");
  }
  if (args.interactive && args.prompt_path == "-") {
    FailUsage("run", "-f - and -i cannot both read standard input");
  }
  try {
    Validate(args.sampling);
  } catch (const Error& error) {
    FailUsage("run", ErrorText(error, "run"));
  }
}

// Returns the prompt, or nothing for a session that starts without one.
std::string ReadPrompt(const RunArgs& args) {
  if (!args.prompt && !args.prompt_path) return "";
  std::string text = args.prompt ? *args.prompt : ReadTextFile(*args.prompt_path, kMaxPromptBytes);
  // A file's last line end is the editor's, not the text's.
  if (args.prompt_path && text.ends_with('\n')) text.pop_back();
  if (text.empty()) {
    throw Error({.path = args.prompt_path.value_or(""),
                 .what = "the prompt is empty",
                 .hint = "give some text to continue with -p or -f"});
  }
  return text;
}

void PrintPlan(const RunArgs& args) {
  const OpenedModel model(args.engine);
  WriteOutput(args.json ? MemoryPlanJson(model).dump(2) + "\n" : MemoryPlanTable(model));
}

void CheckFits(const RunArgs& args, size_t n_tokens, int64_t context_tokens) {
  if (static_cast<int64_t>(n_tokens) <= context_tokens) return;
  throw Error({.path = args.prompt_path.value_or(""),
               .what = "the prompt is longer than the context",
               .expected = fmt::format("at most {} tokens", context_tokens),
               .found = std::to_string(n_tokens),
               .hint = "shorten the prompt or raise -c"});
}

// Runs one prompt and its continuation.
Generation RunOnce(const RunArgs& args, const std::string& prompt, const std::vector<int32_t>& ids,
                   Generator& generator) {
  if (::isatty(STDOUT_FILENO) == 1) WriteOutput(prompt);
  char last = '\n';
  const Generation generation =
      generator.Continue(ids, args.max_tokens, [&](std::string_view text) {
        WriteOutput(text);
        last = text.back();
      });
  if (last != '\n' || ::isatty(STDOUT_FILENO) == 1) WriteOutput("\n");
  return generation;
}

void RunModel(const RunArgs& args) {
  const std::string prompt = ReadPrompt(args);
  std::optional<TraceFile> trace;
  if (args.trace_path) {
    std::vector<std::string> inputs = InputFiles(args.engine);
    if (args.prompt_path) inputs.push_back(*args.prompt_path);
    CheckNotRead(*args.trace_path, inputs);
    trace.emplace(*args.trace_path);
  }
  const auto started = std::chrono::steady_clock::now();
  auto model = std::make_unique<OpenedModel>(args.engine);
  std::vector<int32_t> prompt_ids;
  if (!args.interactive) {  // said before gigabytes are read
    prompt_ids = model->tokenizer().EncodePrompt(prompt);
    CheckFits(args, prompt_ids.size(), model->context_tokens());
  }
  Engine engine(std::move(model));
  RunSummary summary;
  summary.load_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  summary.sampling = args.sampling;
  if (args.verbose) PrintNote(EngineDescription(engine) + MemoryPlanTable(engine.model()) + "\n");

  engine.executor().ResetCounts();
  PassProfile profile(engine.model().n_threads(), TraceFile::kMaxSpans);
  if (trace) engine.executor().set_profile(&profile);
  Generator generator(engine, args.sampling);
  bool interrupted = false;
  if (args.interactive) {
    ChatSession chat(generator, args.max_tokens, &WriteOutput, &PrintNote);
    interrupted = chat.Run(prompt, *MakeLineReader("> "));
    summary.generation = chat.totals();
  } else {
    summary.generation = RunOnce(args, prompt, prompt_ids, generator);
    summary.tell_stop = true;
    interrupted = summary.generation.stop == StopReason::kInterrupted;
  }
  PrintNote(RunSummaryText(engine, summary));
  if (trace) {
    engine.executor().set_profile(nullptr);
    PrintNote(trace->Write({{"thermocline run", &profile}}));
  }
  if (interrupted) throw Interrupted();
}

void Run(RunArgs& args) {
  args.sampling.seed = args.seed < 0 ? std::random_device{}() : static_cast<uint64_t>(args.seed);
  CheckUsage(args);
  args.engine.progress = StderrProgress();
  if (args.dry_run) {
    PrintPlan(args);
  } else {
    RunModel(args);
  }
}

void AddSamplingOptions(CLI::App& verb, RunArgs* args) {
  SamplerOptions* s = &args->sampling;
  AddNumberOption(
      verb, "-s,--seed", &args->seed, {.least = -1},
      "Seed of the random choice; the same seed gives the same text. -1 (the default): a "
      "random one, which the summary names");
  const auto number = [&](const char* flag, auto* value, auto bounds, const std::string& help) {
    AddNumberOption(verb, flag, value, bounds, fmt::format("{} (default {})", help, *value));
  };
  using Real = Bounds<float>;
  using Whole = Bounds<int32_t>;
  number("--temp,--temperature", &s->temperature, Real{.least = 0},
         "Temperature; 0 always takes the likeliest token");
  number("--top-k", &s->top_k, Whole{.least = 0}, "Choose among the K likeliest tokens; 0: all");
  number("--top-p", &s->top_p, Real{.least = 0, .most = 1, .above = true},
         "Choose among the likeliest with this total probability; 1: all");
  number("--min-p", &s->min_p, Real{.least = 0, .most = 1},
         "Leave out tokens with less than this share of the likeliest one's probability; 0: none");
  number("--repeat-penalty", &s->repeat_penalty, Real{.least = 0, .above = true},
         "Makes recent tokens less likely; 1: off");
  number("--repeat-last-n", &s->repeat_last_n, Whole{.least = -1},
         "How many tokens are recent; -1: all");
}

}  // namespace

void AddRunVerb(CLI::App& app) {
  const auto args = std::make_shared<RunArgs>();
  CLI::App* verb = AddVerb(app, "run", "Generates text from a model", kRunDetails);
  AddModelOptions(*verb, &args->engine);
  CLI::Option* prompt =
      verb->add_option("-p,--prompt", args->prompt, "Text to continue")->type_name("TEXT");
  verb->add_option(
          "-f,--file", args->prompt_path,
          "File with the text to continue, - for standard input; one line end at its end is "
          "dropped")
      ->type_name("FILE")
      ->excludes(prompt);
  AddNumberOption(*verb, "-n,--n-predict", &args->max_tokens,
                  {.least = -1, .most = int64_t{1} << 40},
                  "Tokens to generate at most (with -i: per reply); -1: until the text ends or the "
                  "context is full (default 128)");
  verb->add_flag("-i,--interactive", args->interactive, "A session: type, read, go on");
  AddEngineOptions(*verb, &args->engine);
  AddSamplingOptions(*verb, args.get());
  AddTraceOption(*verb, &args->trace_path);
  verb->add_flag("--dry-run", args->dry_run, "Print the memory plan and stop before loading");
  verb->add_flag("--json", args->json, "With --dry-run: the plan as JSON");
  verb->add_flag("-v,--verbose", args->verbose,
                 "Also print the instruction set in use, the model's fingerprint and the plan");
  verb->callback([args] { Run(*args); });
}

}  // namespace thermocline
