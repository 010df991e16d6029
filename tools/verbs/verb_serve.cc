#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <utility>

#include "runtime/chat/named_templates.h"
#include "runtime/core/error.h"
#include "tools/serve/serve.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/chat_options.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/draft_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/placement_options.h"
#include "tools/verbs/sampling_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kServeDetails =
    R"(Answers the OpenAI API (/v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings,
/v1/models), Anthropic's (/v1/messages), and that of llama.cpp's server (/completion, /infill, /tokenize,
/detokenize, /apply-template, /props, /slots, /metrics, /health). At / is a page to chat on, which loads
nothing from anywhere.

Several requests run at a time (-np), a pass of the model for all of them; what a prompt has in common
with one before it is not read again. -c is the context of all slots together: each has its share of it,
or with --kv-unified, which is the default where -np is not given, room for all of it as long as the
others leave it.

Without --api-key only programs of this machine are trusted: pages of other sites may not call, and
requests must name this machine (localhost, an address, or a name of --allow-host).

On Ctrl-C or SIGTERM no more requests are taken, those that run may end, and the program leaves.

Examples:
  thermocline serve -m model.gguf
  thermocline serve -m model.gguf --placement model.placement.gguf -np 4 -c 16384
  thermocline serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt --metrics)";

constexpr int32_t kDefaultSlots = 4;
constexpr int64_t kDefaultQueue = 256;

struct ServeArgs {
  ServeOptions options;
  SamplingArgs sampling;
  DraftArgs draft;
  std::optional<std::string> chat_template;
  std::string chat_template_file;
  std::string template_vars;
  std::string reasoning = "auto";
  std::string api_keys;
  std::string api_key_file;
  std::string aliases;
  std::string tags;
  std::string origins;
  std::string hosts;
  std::string rates_path;
  int64_t n_slots = -1;
  std::optional<bool> unified;
};

std::vector<std::string> SplitList(const std::string& text, char separator) {
  std::vector<std::string> items;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    std::string item = text.substr(begin, end - begin);
    while (!item.empty() && (item.back() == '\r' || item.back() == ' ')) item.pop_back();
    if (!item.empty()) items.push_back(std::move(item));
    begin = end + 1;
  }
  return items;
}

// A name, a file, or the template itself, which has more than one word.
std::optional<ChatFormatOptions> ChooseTemplate(const ServeArgs& args) {
  TemplateOptions given;
  given.variables = args.template_vars;
  given.name_or_path =
      args.chat_template_file.empty() ? args.chat_template.value_or("") : args.chat_template_file;
  const bool is_text = args.chat_template_file.empty() &&
                       given.name_or_path.find_first_of(" \n{") != std::string::npos;
  if (is_text) given.name_or_path = "chatml";
  auto format = ReadTemplate(given, nullptr);
  if (is_text) {
    format->name = "--chat-template";
    format->source = *args.chat_template;
  }
  return format;
}

void TakeKeys(ServeArgs* args) {
  ServeOptions& options = args->options;
  options.api_keys = SplitList(args->api_keys, ',');
  if (args->api_key_file.empty()) return;
  for (std::string& key : SplitList(ReadTextFile(args->api_key_file, 1 << 20), '\n')) {
    options.api_keys.push_back(std::move(key));
  }
  if (options.api_keys.empty()) {
    throw Error({.path = args->api_key_file,
                 .what = "no API keys",
                 .expected = "a key in each line",
                 .found = "none"});
  }
}

// What -c and -np make of each other.
void ShareContext(ServeArgs* args) {
  ServeOptions& options = args->options;
  const bool unified = args->unified.value_or(args->n_slots < 0);
  const auto n_slots = static_cast<int32_t>(args->n_slots < 0 ? kDefaultSlots : args->n_slots);
  options.schedule.n_slots = n_slots;
  EngineOptions& engine = options.engine;
  EngineOptions of_its_own = engine;
  of_its_own.context_tokens = 0;
  const OpenedModel model(of_its_own);
  engine.n_sequences = n_slots;
  const int64_t all = engine.context_tokens == 0 ? model.context_tokens() : engine.context_tokens;
  if (unified) engine.kv_tokens = all;
  const bool shares = !unified && engine.context_tokens > 0;
  const int64_t wanted = std::max<int64_t>(1, shares ? all / n_slots : all);
  engine.context_tokens = std::min(wanted, model.config().max_seq_len);
  if (engine.context_tokens < wanted) {
    PrintNote(fmt::format(
        "thermocline: a slot's context is {} tokens, the most that the model was made for\n",
        engine.context_tokens));
  }
}

void Run(ServeArgs& args) {
  ServeOptions& options = args.options;
  TakeKeys(&args);
  options.aliases = SplitList(args.aliases, ',');
  options.tags = SplitList(args.tags, ',');
  options.allowed_origins = SplitList(args.origins, ',');
  options.allowed_hosts = SplitList(args.hosts, ',');
  options.allowed_hosts.push_back(options.host);
  options.thinking = args.reasoning == "on"    ? Thinking::kOn
                     : args.reasoning == "off" ? Thinking::kOff
                                               : Thinking::kAuto;
  if (args.chat_template || !args.chat_template_file.empty()) {
    options.chat_template = ChooseTemplate(args);
  }
  if (!options.slot_save_path.empty() && !std::filesystem::is_directory(options.slot_save_path)) {
    throw Error({.path = options.slot_save_path,
                 .what = "slots cannot be saved there",
                 .expected = "a folder",
                 .found = "none"});
  }
  Validate(args.sampling.sampling);
  options.defaults.sampler = args.sampling.sampling;
  options.defaults.seed = args.sampling.seed;
  options.defaults.ignore_eos = args.sampling.ignore_end;
  options.dry_breakers = args.sampling.dry_breakers;
  ShareContext(&args);
  SettleDraft("serve", &args.draft, &options.engine);
  options.draft = args.draft.options;
  options.schedule.rates = RatesForBatches(OpenedModel(options.engine), args.rates_path);
  options.engine.progress = StderrProgress();
  Serve(options, [](const std::string& text) { PrintNote("thermocline: " + text); });
}

void AddNetworkOptions(CLI::App& verb, ServeArgs* args) {
  ServeOptions* options = &args->options;
  verb.add_option("--host", options->host,
                  "Address to listen on (default 127.0.0.1: this machine alone; 0.0.0.0: all)")
      ->type_name("ADDRESS");
  AddNumberFunction<int64_t>(
      verb, "--port", [options](int64_t port) { options->port = static_cast<uint16_t>(port); },
      {.least = 0, .most = 65535}, "Port (default 8080); 0: any that is free");
  verb.add_option("--api-key", args->api_keys,
                  "Key that clients must send, or several with commas between them; needed for "
                  "everything but the page and /health")
      ->type_name("KEY");
  verb.add_option("--api-key-file", args->api_key_file, "File with such a key in each line")
      ->type_name("FILE");
  verb.add_option("--cors-origins", args->origins,
                  "Sites whose pages may call without a key, with commas between them "
                  "(https://example.org); *: any. Where there is a key, any page may call that "
                  "has it")
      ->type_name("ORIGINS");
  verb.add_option("--allow-host", args->hosts,
                  "Further names by which requests without a key may call this machine")
      ->type_name("NAMES");
  AddNumberFunction<int64_t>(
      verb, "--timeout",
      [options](int64_t seconds) {
        options->http.write_time = std::chrono::seconds(seconds);
        options->http.body_time = std::chrono::seconds(seconds);
      },
      {.least = 1, .most = 86'400},
      "Also written -to. Seconds in which a client must send a request, and take what is sent to "
      "it (default 120 and 30)");
  AddNumberFunction<int64_t>(
      verb, "--sse-ping-interval",
      [options](int64_t seconds) {
        constexpr std::chrono::hours kNever{24 * 3650};
        options->http.silence = seconds < 0 ? std::chrono::milliseconds(kNever)
                                            : std::chrono::seconds(std::max<int64_t>(seconds, 1));
      },
      {.least = -1, .most = 86'400},
      "Seconds after which a stream that has said nothing sends a comment, so that nobody on the "
      "way closes it (default 15; -1: never)");
  AddNumberOption(verb, "--connections", &options->http.n_connections, {.least = 1, .most = 65'536},
                  fmt::format("Connections at a time (default {})", options->http.n_connections));
  AddNumberOption(verb, "--threads-http", &options->http.n_workers, {.least = 1, .most = 256},
                  fmt::format("Threads that read requests (default {})", options->http.n_workers));
}

void AddModelNameOptions(CLI::App& verb, ServeArgs* args) {
  verb.add_option("-a,--alias", args->aliases,
                  "Name of the model, or several with commas between them (default: the file's)")
      ->type_name("NAME");
  verb.add_option("--tags", args->tags, "Tags that /v1/models tells, with commas between them")
      ->type_name("TAGS");
}

// `on` turns something on, `off` turns it off.
void AddSwitch(CLI::App& verb, const std::string& on, const std::string& off, bool* value,
               const std::string& help) {
  verb.add_flag_callback(
      on, [value] { *value = true; }, help);
  verb.add_flag_callback(
      off, [value] { *value = false; }, "The other way");
}

void AddServingOptions(CLI::App& verb, ServeArgs* args) {
  ServeOptions* options = &args->options;
  AddNumberOption(verb, "--parallel", &args->n_slots, {.least = 1, .most = 1024},
                  fmt::format("Also written -np. Slots: texts that are written at a time (default "
                              "{})",
                              kDefaultSlots));
  verb.add_flag_callback(
      "--kv-unified", [args] { args->unified = true; },
      "Also written -kvu. All slots share the context's room, and each may have all of it");
  AddSizeOption(verb, "--kv-host", &options->schedule.kv_host_bytes,
                "Memory of the host for pages of the KV cache that are cold, such as 8G: they come "
                "back from there where that is faster than to compute them again (default none)");
  verb.add_option("--rates", args->rates_path,
                  "Rates of this machine, made by `calibrate`, by which small batches skip neurons "
                  "where that pays; default: those that it keeps, and where there are none batches "
                  "of nine texts and more run dense")
      ->type_name("FILE");
  AddNumberOption(
      verb, "--queue", &options->schedule.max_waiting, {.least = 1, .most = 1 << 20},
      fmt::format("Requests that may wait; more are refused (default {})", kDefaultQueue));
  AddNumberOption(
      verb, "-n,--n-predict", &options->defaults.n_predict, {.least = -1, .most = kMaxTokensFlag},
      "Most tokens of a reply, where a request does not say; -1 (the default): until it ends");
  AddSwitch(verb, "--context-shift", "--no-context-shift", &options->context_shift,
            "When a context is full, forget the older half of what follows the prompt's kept part "
            "and go on (default: the reply ends)");
  AddSwitch(verb, "--warmup", "--no-warmup", &options->warms_up,
            "Read the weights once before the first request is taken (the default)");
  AddSwitch(verb, "--slots", "--no-slots", &options->tells_slots,
            "Show at /slots what is being worked on (the default)");
  verb.add_option("--slot-save-path", options->slot_save_path,
                  "Folder in which requests may save slots, and from which they may restore them; "
                  "without it they may do neither")
      ->type_name("FOLDER");
  verb.add_flag("--metrics", options->tells_metrics, "Show counts at /metrics, for Prometheus");
  verb.add_flag_callback(
      "--no-webui,--no-ui", [options] { options->has_page = false; }, "No page at /");
  verb.add_flag_callback(
      "--webui,--ui", [options] { options->has_page = true; }, "The page (the default)");
  AddNumberOption(verb, "--sleep-idle-seconds", &options->sleep_idle_seconds,
                  {.least = -1, .most = int64_t{1} << 31},
                  "Unload the model when so long nobody has asked for anything; the next request "
                  "loads it again. -1 (the default): never");
  verb.add_flag("-v,--verbose", options->defaults.verbose,
                "Answers tell more: the prompt as it was read, and all settings");
}

void AddTemplateFlags(CLI::App& verb, ServeArgs* args) {
  verb.add_option("--chat-template", args->chat_template,
                  "Chat template in place of the model's: " + NamedTemplateList() +
                      ", a file, or the template itself. A model without one gets chatml")
      ->type_name("NAME|FILE|TEXT");
  verb.add_option("--chat-template-file", args->chat_template_file, "The same, always a file")
      ->type_name("FILE");
  verb.add_option("--template-vars,--chat-template-kwargs", args->template_vars,
                  R"(Further variables of the template, an object: {"name": value})")
      ->type_name("JSON|FILE");
  verb.add_option("--reasoning", args->reasoning,
                  "Whether a model that can reason before it replies does, where a request does "
                  "not say: on, off, auto (the default: as the template has it)")
      ->type_name("on|off|auto")
      ->check(CLI::IsMember({"on", "off", "auto"}));
}

// What users of other servers type, and what holds here anyway.
void AddFlagsOfOthers(CLI::App& verb) {
  for (const char* flags : {"--jinja,--no-jinja", "--cont-batching,--no-cont-batching",
                            "--backend-sampling,--backend_sampling", "--embedding,--embeddings"}) {
    verb.add_flag_callback(
        flags, [] {}, "Taken, and changes nothing: it is so anyway");
  }
}

}  // namespace

void AddServeVerb(CLI::App& app) {
  const auto args = std::make_shared<ServeArgs>();
  args->options.schedule.max_waiting = kDefaultQueue;
  CLI::App* verb =
      AddVerb(app, "serve", "Serves a model over HTTP, with a page to chat on", kServeDetails);
  AddModelOptions(*verb, &args->options.engine);
  AddNetworkOptions(*verb, args.get());
  AddModelNameOptions(*verb, args.get());
  AddServingOptions(*verb, args.get());
  AddTemplateFlags(*verb, args.get());
  AddEngineOptions(*verb, &args->options.engine);
  AddLoraOption(*verb, &args->options.engine);
  AddDraftOptions(*verb, &args->draft);
  AddSamplingOptions(*verb, &args->sampling);
  AddFlagsOfOthers(*verb);
  verb->callback([args] { Run(*args); });
}

}  // namespace thermocline
