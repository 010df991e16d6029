#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/chat/chat.h"
#include "runtime/core/atomic_file.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/engine/beam_search.h"
#include "runtime/engine/generate.h"
#include "tools/reports/messages.h"
#include "tools/reports/plan_table.h"
#include "tools/reports/plan_times.h"
#include "tools/reports/run_summary.h"
#include "tools/reports/trace_file.h"
#include "tools/terminal/chat_session.h"
#include "tools/terminal/progress_bar.h"
#include "tools/terminal/text_session.h"
#include "tools/verbs/chat_options.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/draft_options.h"
#include "tools/verbs/grammar_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/sampling_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kRunDetails =
    R"(On a terminal, a model that brings a chat template chats: without a prompt each line is a message, and
-p or -f is one message, whose reply ends the run unless -i is given. Where standard input is no
terminal (scripts, pipes) -p and -f are text that is continued, without a template, and -i chats. --chat
chats anywhere, and so do -sys, --chat-template, --template-vars and --reasoning; --raw never does. A
model without a template continues text.

A model with an encoder (T5) reads the text of -p or -f whole, and prints what its decoder writes.

The model's text goes to stdout as it is made, everything else to stderr; when stdout is a terminal a
text to continue is printed before its continuation. It ends where the model ends it, after -n tokens,
or when the context is full. Ctrl-C stops the reply and prints the summary; a second one leaves at once.

In a session /help lists the commands, /exit or Ctrl-D leaves; Ctrl-C stops a reply and returns to the
prompt, and leaves at the prompt. On a terminal lines can be edited and recalled. A chat keeps all its
turns: one that would not fit into the context any more is not sent, and the session says so. With
--raw, or without a template, a session is one text that each line is appended to.

In what users write (messages, the system prompt, loaded conversations) names of control tokens such as
<|im_end|> are text; only the template's own are tokens.

--dry-run prints what the run would hold in memory (weights, KV cache, scratch; per tier and layer) and
what a token is expected to take by the rates that `calibrate` keeps, and loads nothing.

Examples:
  thermocline run -m model.gguf
  thermocline run -m model.gguf -sys "Answer in one sentence." -p "Why is the sky blue?"
  thermocline run -m model.gguf --raw -p "Once upon a time" --temp 0 -n 40
  thermocline run -m model.gguf --placement model.placement.gguf -f story.txt -n -1
  thermocline run -m model.gguf --placement model.placement.gguf --dry-run)";

struct RunArgs {
  EngineOptions engine;
  SamplingArgs sampling;
  GrammarArgs grammar;
  DraftArgs draft;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_path;
  std::optional<std::string> trace_path;
  std::string learned_path;  // empty: what was learned is not kept
  std::optional<std::string> system;
  TemplateOptions chat_template;
  std::optional<int64_t> max_tokens;
  bool chat = false;
  bool raw = false;
  int64_t beams = 0;  // 0: tokens are sampled
  bool interactive = false;
  bool dry_run = false;
  bool json = false;
  bool verbose = false;
};

constexpr int64_t kTextTokens = 128;  // of a continuation, where -n is not given

bool HasPrompt(const RunArgs& args) { return args.prompt || args.prompt_path; }
bool IsSession(const RunArgs& args) { return args.interactive || !HasPrompt(args); }

// Whether any option asks for chat.
bool AsksForChat(const RunArgs& args) {
  const TemplateOptions& given = args.chat_template;
  return args.chat || args.system || !given.name_or_path.empty() || !given.variables.empty() ||
         !given.reasoning.empty();
}

bool TypesOnTerminal() { return ::isatty(STDIN_FILENO) == 1; }

// Returns the template to chat with; nothing where text is continued. kRunDetails has the rules.
std::optional<ChatFormatOptions> ChooseChat(const RunArgs& args, const GgufReader& gguf) {
  if (args.raw) return std::nullopt;
  std::optional<ChatFormatOptions> chat = ReadTemplate(args.chat_template, &gguf);
  if (AsksForChat(args) && !chat) {
    throw Error({.path = gguf.path(),
                 .what = "the model brings no chat template",
                 .hint = "choose one with --chat-template, or leave out what asks for a chat"});
  }
  const bool chats = AsksForChat(args) || IsSession(args) || TypesOnTerminal();
  return chats ? chat : std::nullopt;
}

[[noreturn]] void FailWithoutPrompt() {
  FailUsage("run", "what should it continue? Give -p TEXT, -f FILE or -i");
}

void CheckUsage(const RunArgs& args) {
  if (args.json && !args.dry_run) FailUsage("run", "--json goes with --dry-run");
  if (args.trace_path && args.dry_run) {
    FailUsage("run", "--trace needs a run, and --dry-run runs nothing");
  }
  if (!args.learned_path.empty() && args.dry_run) {
    FailUsage("run", "--save-placement needs a run, and --dry-run runs nothing");
  }
  if (args.raw && AsksForChat(args)) {
    FailUsage("run",
              "--raw continues text; --chat, -sys, --chat-template, --template-vars and "
              "--reasoning are for a chat");
  }
  if (args.beams > 0 && IsSession(args) && !args.dry_run) {
    FailUsage("run", "--beams searches for one reply: give -p or -f, and no -i");
  }
  if (args.beams > 0 && args.grammar.given()) {
    FailUsage("run", "--beams searches without a grammar");
  }
  if (args.beams > 0 && args.draft.options.kind != DraftKind::kNone) {
    FailUsage("run", "--beams searches without drafts");
  }
  const bool may_chat = AsksForChat(args) || (TypesOnTerminal() && !args.raw);
  if (!HasPrompt(args) && !args.interactive && !args.dry_run && !may_chat) FailWithoutPrompt();
  if (args.interactive && args.prompt_path == "-") {
    FailUsage("run", "-f - and -i cannot both read standard input");
  }
  try {
    Validate(args.sampling.sampling);
  } catch (const Error& error) {
    FailUsage("run", ErrorText(error, "run"));
  }
}

// Returns the prompt, or nothing for a session that starts without one.
std::string ReadPrompt(const RunArgs& args) {
  if (!HasPrompt(args)) return "";
  std::string text = args.prompt ? *args.prompt : ReadTextFile(*args.prompt_path, kMaxPromptBytes);
  // A file's last line end is the editor's, not the text's.
  if (args.prompt_path && text.ends_with('\n')) text.pop_back();
  if (text.empty()) {
    throw Error({.path = args.prompt_path.value_or(""),
                 .what = "the prompt is empty",
                 .hint = "give some text with -p or -f"});
  }
  return text;
}

void PrintPlan(const RunArgs& args) {
  const OpenedModel model(args.engine);
  const PlanTimes times = TimesOfPlan(model);
  if (!args.json) return WriteOutput(MemoryPlanTable(model) + PlanTimesText(times));
  nlohmann::ordered_json plan = MemoryPlanJson(model);
  plan["time"] = PlanTimesJson(times);
  WriteOutput(plan.dump(2) + "\n");
}

void CheckFits(const RunArgs& args, size_t n_tokens, int64_t context_tokens) {
  if (static_cast<int64_t>(n_tokens) <= context_tokens) return;
  throw Error({.path = args.prompt_path.value_or(""),
               .what = "the prompt is longer than the context",
               .expected = fmt::format("at most {} tokens", context_tokens),
               .found = std::to_string(n_tokens),
               .hint = "shorten the prompt or raise -c"});
}

// Prints what `reply` hands out, and the end of its last line.
Generation PrintReply(const std::function<Generation(const Generator::TextSink&)>& reply) {
  char last = '\n';
  const Generation generation = reply([&](std::string_view text) {
    WriteOutput(text);
    last = text.back();
  });
  if (last != '\n' || ::isatty(STDOUT_FILENO) == 1) WriteOutput("\n");
  return generation;
}

// One run of the verb, once the model is loaded.
struct LoadedRun {
  const RunArgs& args;
  const std::string& prompt;
  Generator& generator;
  RunSummary& summary;

  // Each returns whether the user stopped it.
  bool Answer(const std::vector<int32_t>& ids) const {
    return Once([&](const Generator::TextSink& sink) {
      return generator.Answer(ids, args.max_tokens.value_or(kTextTokens), sink);
    });
  }
  bool Text(const std::vector<int32_t>& ids) const {
    if (::isatty(STDOUT_FILENO) == 1) WriteOutput(prompt);
    return Once([&](const Generator::TextSink& sink) {
      return generator.Continue(ids, args.max_tokens.value_or(kTextTokens), sink);
    });
  }
  bool ChatOnce(Chat& chat) const {
    return Once([&](const Generator::TextSink& sink) {
      return chat.Say(prompt, args.max_tokens.value_or(-1), sink);
    });
  }
  bool InSession(Session& session) const {
    const bool interrupted = session.Run(prompt, *MakeLineReader("> "));
    summary.generation = session.totals();
    return interrupted;
  }

 private:
  bool Once(const std::function<Generation(const Generator::TextSink&)>& reply) const {
    summary.generation = PrintReply(reply);
    summary.tell_stop = true;
    return summary.generation.stop == StopReason::kInterrupted;
  }
};

// What /save and /load may touch: not the files that the run reads, and not the lines it reads.
ConversationFiles FilesOf(const RunArgs& args) {
  return {.read =
              [](const std::string& path) {
                if (path == "-") throw Error({.path = path, .what = "not a file"});
                return ReadTextFile(path, kMaxPromptBytes);
              },
          .write =
              [inputs = InputFiles(args.engine)](const std::string& path, const std::string& text) {
                CheckNotRead(path, inputs);
                AtomicFile file(path);
                file.Write(text.data(), text.size());
                file.Commit();
              }};
}

// The conversation that a chat begins with.
Conversation BeginConversation(const RunArgs& args) {
  Conversation conversation;
  conversation.set_system(args.system.value_or(""));
  return conversation;
}

// Says before gigabytes are read what is wrong with a prompt, or with a template.
std::vector<int32_t> EncodeFirst(const RunArgs& args, const std::string& prompt,
                                 const ChatFormat* format, OpenedModel& model) {
  std::vector<int32_t> ids;
  if (format != nullptr) {
    Conversation conversation = BeginConversation(args);
    conversation.Add("user", prompt.empty() ? "Hello" : prompt);
    ids = format->Encode(conversation);
  } else if (!IsSession(args)) {
    const Tokenizer& tokenizer = model.tokenizer();
    ids = model.config().has_encoder() ? tokenizer.EncodeWhole(prompt)
                                       : tokenizer.EncodePrompt(prompt);
  }
  CheckFits(args, ids.size(), model.context_tokens());
  return ids;
}

// An encoder reads a whole text at once: nothing is appended to it.
void CheckOneText(const RunArgs& args, const ChatFormat* format, const OpenedModel& model) {
  if (!model.config().has_encoder() || (format == nullptr && !IsSession(args))) return;
  throw Error({.path = model.gguf().path(),
               .what = "a model with an encoder answers one text, and holds no conversation",
               .expected = "a text with -p or -f, and no chat",
               .found = format != nullptr ? "a chat" : "a session"});
}

bool RunLoaded(const LoadedRun& run, const ChatFormat* format, const std::vector<int32_t>& ids,
               bool has_encoder) {
  const RunArgs& args = run.args;
  if (has_encoder) return run.Answer(ids);
  if (format == nullptr && !IsSession(args)) return run.Text(ids);
  if (format == nullptr) {
    TextSession session(run.generator, args.max_tokens.value_or(kTextTokens), &WriteOutput,
                        &PrintNote);
    return run.InSession(session);
  }
  Chat chat(run.generator, *format);
  chat.set_conversation(BeginConversation(args));
  if (!IsSession(args)) return run.ChatOnce(chat);
  ChatSession session(chat, args.max_tokens.value_or(-1), FilesOf(args), &WriteOutput, &PrintNote);
  return run.InSession(session);
}

// Returns the likeliest replies that a beam search finds, as texts of their tokens.
void RunBeams(const RunArgs& args, Engine& engine, const ChatFormat* format,
              const std::vector<int32_t>& ids, RunSummary* summary) {
  const Tokenizer& tokenizer = engine.tokenizer();
  BeamOptions options;
  options.n_beams = args.beams;
  if (format != nullptr) options.ends = format->reply_ends();
  for (int32_t id = 0; id < engine.config().vocab_size; ++id) {
    if (tokenizer.EndsText(id)) options.ends.push_back(id);
  }
  std::vector<int32_t> begin = ids;
  if (engine.config().has_encoder()) begin = {engine.config().decoder_start};
  const int64_t room = engine.context_tokens() - static_cast<int64_t>(begin.size());
  const int64_t wanted = args.max_tokens.value_or(kTextTokens);
  options.max_tokens = std::max<int64_t>(1, wanted < 0 ? room : std::min(wanted, room));
  auto started = std::chrono::steady_clock::now();
  const auto milliseconds = [&] {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double, std::milli>(now - std::exchange(started, now)).count();
  };
  options.prompt_is_read = [&] { summary->generation.prefill_ms = milliseconds(); };
  if (engine.config().has_encoder()) engine.Encode(engine.main_sequence(), ids);
  const std::vector<Beam> beams = SearchBeams(engine, begin, options);
  summary->generation.prompt_tokens = static_cast<int64_t>(ids.size());
  summary->generation.generated_tokens = static_cast<int64_t>(beams.front().ids.size());
  summary->generation.decode_passes = summary->generation.generated_tokens - 1;
  summary->generation.decode_ms = milliseconds();
  const auto text_of = [&](const Beam& beam) {
    std::vector<int32_t> shown = beam.ids;
    while (!shown.empty() && tokenizer.EndsText(shown.back())) shown.pop_back();
    return tokenizer.Decode(shown);
  };
  WriteOutput(text_of(beams.front()) + "\n");
  for (size_t i = 0; args.verbose && i < beams.size(); ++i) {
    PrintNote(fmt::format("beam {}: {:.4f} nats per token: {}\n", i + 1, beams[i].score,
                          Printable(text_of(beams[i]), 400)));
  }
}

void RunModel(const RunArgs& args) {
  const std::string prompt = ReadPrompt(args);
  const std::string gbnf = ReadGrammar(args.grammar);
  std::optional<TraceFile> trace;
  if (args.trace_path) {
    std::vector<std::string> inputs = InputFiles(args.engine);
    if (args.prompt_path) inputs.push_back(*args.prompt_path);
    CheckNotRead(*args.trace_path, inputs);
    trace.emplace(*args.trace_path);
  }
  if (!args.learned_path.empty()) {
    CheckOutputPath(args.learned_path, {args.engine.model_path, args.prompt_path.value_or("")});
  }
  const auto started = std::chrono::steady_clock::now();
  auto model = std::make_unique<OpenedModel>(args.engine);
  if (!args.learned_path.empty() && !model->adapt().moves) {
    throw Error({.path = args.learned_path,
                 .what = "a run in which no neuron moves learns no placement",
                 .found = model->adapt().why_not.empty() ? "--adapt off" : model->adapt().why_not,
                 .hint = "give --adapt on, with a placement"});
  }
  std::optional<ChatFormat> format;
  if (const auto chosen = ChooseChat(args, model->gguf())) {
    format.emplace(*chosen, model->tokenizer());
  } else if (!HasPrompt(args) && !args.interactive) {
    FailWithoutPrompt();
  }
  const ChatFormat* chat_format = format ? &*format : nullptr;
  CheckOneText(args, chat_format, *model);
  const std::vector<int32_t> first_ids = EncodeFirst(args, prompt, chat_format, *model);
  const std::vector<int32_t> no_ends;
  std::optional<Drafting> drafting;
  if (args.draft.options.kind != DraftKind::kNone) drafting.emplace(args.draft.options, *model);
  auto mask = MakeTextMask(gbnf, model->tokenizer(), format ? format->reply_ends() : no_ends);
  Engine engine(std::move(model));
  RunSummary summary;
  summary.load_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  summary.sampling = ResolveSampling(args.sampling, engine.tokenizer());
  if (args.verbose) PrintNote(EngineDescription(engine) + MemoryPlanTable(engine.model()) + "\n");

  engine.executor().ResetCounts();
  PassProfile profile(engine.model().n_threads(), TraceFile::kMaxSpans);
  if (trace) engine.executor().set_profile(&profile);
  Generator generator(engine, summary.sampling);
  generator.set_mask(std::move(mask));
  // A seed that was given gives the text that it gives without drafts.
  if (drafting) drafting->Use(engine);
  if (drafting) generator.set_speculator(&drafting->speculator(), args.sampling.seed < 0);
  bool interrupted = false;
  if (args.beams > 0) {
    RunBeams(args, engine, chat_format, first_ids, &summary);
  } else {
    interrupted = RunLoaded({args, prompt, generator, summary}, chat_format, first_ids,
                            engine.config().has_encoder());
  }
  if (drafting) summary.speculator = &drafting->speculator();
  if (!args.learned_path.empty()) WritePlacement(args.learned_path, engine.LearnedPlacement());
  PrintNote(RunSummaryText(engine, summary));
  if (trace) {
    engine.executor().set_profile(nullptr);
    PrintNote(trace->Write({{"thermocline run", &profile}}));
  }
  if (interrupted) throw Interrupted();
}

void Run(RunArgs& args) {
  SettleDraft("run", &args.draft, &args.engine);
  CheckUsage(args);
  args.engine.progress = StderrProgress();
  // Each beam is a sequence, beside the main one, which keeps the prompt.
  if (args.beams > 0) args.engine.n_sequences = args.beams + 1;
  if (args.dry_run) {
    PrintPlan(args);
  } else {
    RunModel(args);
  }
}

void AddBeamOption(CLI::App& verb, RunArgs* args) {
  AddNumberOption(verb, "--beams", &args->beams, {.least = 0, .most = 64},
                  "Search for the likeliest reply with so many beams instead of sampling; it is "
                  "printed when it is found (-v prints the others); 0 (the default): sample");
}

void AddChatOptions(CLI::App& verb, RunArgs* args) {
  verb.add_flag("--chat", args->chat, "Chat, also where standard input is no terminal");
  verb.add_flag("--raw", args->raw, "Continue text, whatever chat template the model brings");
  verb.add_option("--system,--system-prompt", args->system,
                  "Also written -sys. What the model is told before the conversation")
      ->type_name("TEXT");
  AddTemplateOptions(verb, &args->chat_template);
}

}  // namespace

void AddRunVerb(CLI::App& app) {
  const auto args = std::make_shared<RunArgs>();
  CLI::App* verb = AddVerb(app, "run", "Generates text from a model", kRunDetails);
  AddModelOptions(*verb, &args->engine);
  CLI::Option* prompt =
      verb->add_option("-p,--prompt", args->prompt, "Message to reply to, or text to continue")
          ->type_name("TEXT");
  verb->add_option(
          "-f,--file", args->prompt_path,
          "File with the message or text, - for standard input; one line end at its end is "
          "dropped")
      ->type_name("FILE")
      ->excludes(prompt);
  AddNumberFunction<int64_t>(
      *verb, "-n,--n-predict", [args = args.get()](int64_t n) { args->max_tokens = n; },
      {.least = -1, .most = int64_t{1} << 40},
      fmt::format("Tokens to generate at most (in a session: per reply); -1: until the text ends "
                  "or the context is full (default -1 in a chat, else {})",
                  kTextTokens));
  verb->add_flag("-i,--interactive", args->interactive, "A session: type, read, go on");
  AddChatOptions(*verb, args.get());
  AddEngineOptions(*verb, &args->engine);
  AddAdaptOption(*verb, Adapt::kAuto, &args->engine);
  AddLoraOption(*verb, &args->engine);
  AddBeamOption(*verb, args.get());
  AddDraftOptions(*verb, &args->draft);
  AddSamplingOptions(*verb, &args->sampling);
  AddGrammarOptions(*verb, &args->grammar);
  verb->add_option("--save-placement", args->learned_path,
                   "At the end, write the placement as it is then: where neurons have come to lie "
                   "(needs --adapt on, or auto where it adapts). May be the one that was read")
      ->type_name("FILE");
  AddTraceOption(*verb, &args->trace_path);
  verb->add_flag("--dry-run", args->dry_run, "Print the memory plan and stop before loading");
  verb->add_flag("--json", args->json, "With --dry-run: the plan as JSON");
  verb->add_flag("-v,--verbose", args->verbose,
                 "Also print the instruction set in use, the model's fingerprint and the plan");
  verb->callback([args] { Run(*args); });
}

}  // namespace thermocline
