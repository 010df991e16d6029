// thermocline render: the prompt that a chat template makes of a conversation.
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <memory>
#include <optional>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/jinja/chat_template.h"
#include "runtime/text/jinja/model_template.h"
#include "tools/verbs/chat_options.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kRenderDetails =
    R"(Prints the prompt and nothing else, without a newline of its own. The template is the model's, or that of
--chat-template; BOS and EOS are the model's tokens unless --bos and --eos give their texts. --messages is a
JSON array of messages as chat programs exchange them, --tools an array of tools:
  [{"role": "user", "content": "Hello"}]

Templates are Jinja as transformers renders it. A template reads no files and runs no code; one that loops, nests
or writes without end is stopped.

Example:
  thermocline render -m model.gguf --messages conversation.json
  thermocline render --chat-template chat.jinja --bos '<s>' --messages - --now 2026-01-31T12:00)";

struct RenderArgs {
  std::string model_path, messages_path, tools_path, now;
  TemplateOptions chat_template;
  std::optional<std::string> bos_token, eos_token;
  bool no_generation_prompt = false;
};

// Returns the JSON array in a file.
nlohmann::ordered_json ReadJsonArray(const std::string& path, const std::string& expected) {
  nlohmann::ordered_json json = ParseJson(ReadTextFile(path, kMaxPromptBytes), path);
  if (!json.is_array()) {
    throw Error({.path = path,
                 .what = "not " + expected,
                 .expected = "an array",
                 .found = json.type_name()});
  }
  return json;
}

// Reads "2026-01-31T12:00", with seconds if there are any, as local time.
std::tm ParseTime(const std::string& text) {
  std::tm time{};
  int n_read = 0;
  const int n_parts =
      std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d%n:%2d%n", &time.tm_year, &time.tm_mon,
                  &time.tm_mday, &time.tm_hour, &time.tm_min, &n_read, &time.tm_sec, &n_read);
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  std::tm normalised = time;
  ::timegm(&normalised);  // fills in the day of the week and of the year
  const bool exists = normalised.tm_mon == time.tm_mon && normalised.tm_mday == time.tm_mday &&
                      normalised.tm_hour == time.tm_hour && normalised.tm_min == time.tm_min &&
                      normalised.tm_sec == time.tm_sec;
  if (n_parts < 5 || static_cast<size_t>(n_read) != text.size() || !exists) {
    FailUsage("render",
              fmt::format("--now takes a time like 2026-01-31T12:00, not '{}'", Printable(text)));
  }
  return normalised;
}

void Render(const RenderArgs& args) {
  ChatInput input;
  if (!args.now.empty()) input.now = ParseTime(args.now);
  std::optional<GgufReader> gguf;
  if (!args.model_path.empty()) gguf.emplace(args.model_path);
  const ModelTemplate model = gguf ? ReadModelTemplate(*gguf) : ModelTemplate{};
  const auto format = ReadTemplate(args.chat_template, gguf ? &*gguf : nullptr);
  if (!format) {
    throw Error({.path = args.model_path,
                 .what = "the model brings no chat template",
                 .hint = "give one with --chat-template"});
  }
  const ChatTemplate chat(format->source, format->name);
  input.extra = format->variables;
  input.bos_token = args.bos_token.value_or(model.bos_token);
  input.eos_token = args.eos_token.value_or(model.eos_token);
  input.add_generation_prompt = !args.no_generation_prompt;
  input.messages = ReadJsonArray(args.messages_path, "a conversation");
  if (!args.tools_path.empty()) input.tools = ReadJsonArray(args.tools_path, "a list of tools");
  WriteOutput(chat.Render(input));
}

}  // namespace

void AddRenderVerb(CLI::App& app) {
  const auto args = std::make_shared<RenderArgs>();
  CLI::App* verb = AddVerb(
      app, "render", "Prints the prompt that a chat template makes of messages", kRenderDetails);
  verb->add_option("-m,--model", args->model_path, "GGUF model with a chat template")
      ->type_name("FILE");
  AddTemplateOptions(*verb, &args->chat_template);
  verb->add_option("--messages", args->messages_path, "Conversation: a JSON array; - is stdin")
      ->required()
      ->type_name("FILE");
  verb->add_option("--tools", args->tools_path, "Tools that the model may call: a JSON array")
      ->type_name("FILE");
  verb->add_flag("--no-generation-prompt", args->no_generation_prompt,
                 "Do not end with the start of a reply");
  verb->add_option("--bos", args->bos_token, "Text of the token that begins a text");
  verb->add_option("--eos", args->eos_token, "Text of the token that ends a text");
  verb->add_option("--now", args->now, "Time that the template sees, 2026-01-31T12:00")
      ->type_name("TIME");
  verb->callback([args] {
    if (args->model_path.empty() && args->chat_template.name_or_path.empty()) {
      FailUsage("render", "give -m MODEL or --chat-template NAME or FILE");
    }
    Render(*args);
  });
}

}  // namespace thermocline
