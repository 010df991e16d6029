#include "tools/serve/request_parser.h"

#include <utility>

#include "tools/serve/prompt_fields.h"
#include "tools/serve/stop_strings.h"

namespace thermocline {
namespace {

constexpr size_t kMaxResponseFields = 64;
constexpr int64_t kMaxTopLogprobs = 100;

// A reply of any JSON object.
const ApiJson& AnyObject() {
  static const ApiJson schema = {{"type", "object"}};
  return schema;
}

// Returns the schema of a `response_format`; null: any text.
const ApiJson* SchemaOfFormat(const ApiJson& format) {
  const Fields fields(format, "response_format");
  const std::string type = fields.RequiredText("type");
  if (type == "text") return nullptr;
  if (type == "json_object") {
    const ApiJson* schema = fields.Find("schema");
    return schema == nullptr ? &AnyObject() : schema;
  }
  if (type != "json_schema") {
    FailField("response_format.type", "'text', 'json_object' or 'json_schema'",
              fields.Find("type"));
  }
  const ApiJson* inner = fields.Object("json_schema");
  if (inner == nullptr) FailField("response_format.json_schema", "an object", nullptr);
  const ApiJson* schema = Fields(*inner, "response_format.json_schema").Find("schema");
  if (schema == nullptr) FailField("response_format.json_schema.schema", "a schema", nullptr);
  return schema;
}

}  // namespace

GenerationSpec RequestParser::Base(const ApiJson& request, Api api) const {
  const Fields fields(request);
  GenerationSpec spec;
  spec.api = api;
  ReadGenerationFields(fields, defaults_, tokenizer_, &spec);
  SetStopStrings(fields.Texts("stop", StopStrings::kMaxStrings), "stop", &spec);
  ReadTokenLimit(fields, {}, defaults_, &spec);
  return spec;
}

void RequestParser::TakeSchema(const ApiJson& schema, const ReplyFormat* format,
                               GenerationSpec* spec) const {
  spec->mask = format == nullptr ? constraints_.OfSchema(schema, spec->ends)
                                 : constraints_.OfAnswer(schema, *format, spec->ends);
}

void RequestParser::ReadConstraint(const Fields& fields, const ReplyFormat* format,
                                   GenerationSpec* spec) const {
  const auto grammar = fields.Text("grammar");
  const ApiJson* schema = fields.Find("json_schema");
  const ApiJson* wanted = fields.Object("response_format");
  const bool has_grammar = grammar && !grammar->empty();
  if (has_grammar && schema != nullptr) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   "'grammar' and 'json_schema' cannot both be given");
  }
  if (has_grammar) {
    spec->grammar = *grammar;
    spec->mask = constraints_.OfGrammar(*grammar, spec->ends);
  } else if (schema != nullptr) {
    TakeSchema(*schema, format, spec);
  } else if (wanted != nullptr) {
    if (const ApiJson* of_format = SchemaOfFormat(*wanted)) TakeSchema(*of_format, format, spec);
  }
}

GenerationSpec RequestParser::Native(const ApiJson& request) const {
  const Fields fields(request);
  GenerationSpec spec = Base(request, Api::kNative);
  const ApiJson* prompt = fields.Find("prompt");
  if (prompt == nullptr) FailField("prompt", "a text or token ids", nullptr);
  spec.prompts = ReadPrompts(*prompt, "prompt", tokenizer_);
  ReadTokenLimit(fields, {"n_predict", "max_tokens"}, defaults_, &spec);
  spec.response_fields = fields.Texts("response_fields", kMaxResponseFields);
  ReadConstraint(fields, nullptr, &spec);
  return spec;
}

GenerationSpec RequestParser::TextCompletions(const ApiJson& request) const {
  const Fields fields(request);
  GenerationSpec spec = Base(request, Api::kTextCompletions);
  const ApiJson* prompt = fields.Find("prompt");
  if (prompt == nullptr) FailField("prompt", "a text or token ids", nullptr);
  spec.prompts = ReadPrompts(*prompt, "prompt", tokenizer_);
  ReadTokenLimit(fields, {"max_tokens", "n_predict"}, defaults_, &spec);
  if (const auto n = fields.Integer("logprobs", 0, kMaxTopLogprobs)) {
    spec.n_probs = *n;
    spec.wants_probs = true;
  }
  spec.echo = fields.Bool("echo").value_or(false);
  if (fields.Has("suffix") && !fields.RequiredText("suffix").empty()) {
    FailField("suffix", "nothing: /infill fills in", fields.Find("suffix"));
  }
  ReadConstraint(fields, nullptr, &spec);
  return spec;
}

GenerationSpec RequestParser::ChatForm(const ApiJson& chat_request, Api api,
                                       std::initializer_list<const char*> limits) const {
  const Fields fields(chat_request);
  GenerationSpec spec = Base(chat_request, api);
  ReadTokenLimit(fields, limits, defaults_, &spec);
  const ChatRequest chat = ReadChatRequest(fields);
  ChatPrompt prompt = chat_.Make(chat);
  spec.prompts.push_back(std::move(prompt.ids));
  spec.ends = chat_.reply_ends();
  ReadConstraint(fields, &prompt.format, &spec);
  ReadTools(fields, chat, prompt.format, &spec);
  return spec;
}

std::unordered_map<int32_t, std::string> RequestParser::Spoken(const ReplyFormat& format) const {
  std::unordered_map<int32_t, std::string> spoken;
  for (const std::string& name : SpokenTokens(format)) {
    const std::vector<int32_t> ids = tokenizer_.Encode(name, true);
    const bool is_token = ids.size() == 1 && tokenizer_.TokenBytes(ids[0]).empty();
    if (is_token) spoken[ids[0]] = name;
  }
  return spoken;
}

void RequestParser::ReadTools(const Fields& fields, const ChatRequest& chat,
                              const ReplyFormat& format, GenerationSpec* spec) const {
  const bool calls = !chat.tool_list.empty() && chat.tool_choice.kind != ToolChoice::Kind::kNone;
  if (calls && spec->mask != nullptr) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   "'tools' and a grammar or schema of the reply cannot both be given");
  }
  if (calls || chat.tool_choice.kind == ToolChoice::Kind::kRequired ||
      chat.tool_choice.kind == ToolChoice::Kind::kNamed) {
    spec->mask = constraints_.OfTools(chat, format, spec->ends);
  }
  const bool parts_reasoning = fields.Text("reasoning_format").value_or("auto") != "none";
  const bool thinks = format.thinks() || format.calls == CallFormat::kHarmony;
  if (!calls && !(thinks && parts_reasoning)) return;
  ReplyReading reading = {.format = format, .options = {}, .spoken = Spoken(format)};
  reading.options.calls = calls;
  reading.options.reasoning = parts_reasoning;
  for (const Tool& tool : chat.tool_list) reading.options.tools.push_back(tool.name);
  spec->reading = std::move(reading);
}

GenerationSpec RequestParser::Chat(const ApiJson& request) const {
  const Fields fields(request);
  GenerationSpec spec =
      ChatForm(request, Api::kChat, {"max_completion_tokens", "max_tokens", "n_predict"});
  const bool wants = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top && !wants) {
    FailField("top_logprobs", "it to come with 'logprobs': true", fields.Find("top_logprobs"));
  }
  if (wants) {
    spec.wants_probs = true;
    spec.n_probs = top.value_or(0);
  }
  return spec;
}

GenerationSpec RequestParser::Responses(const ApiJson& request) const {
  GenerationSpec spec =
      ChatForm(FromResponsesApi(request), Api::kResponses, {"max_output_tokens", "max_tokens"});
  spec.n = 1;
  for (const char* name : {"instructions", "max_output_tokens", "metadata", "tools", "tool_choice",
                           "parallel_tool_calls", "text", "reasoning"}) {
    const auto found = request.find(name);
    if (found != request.end()) spec.echoed[name] = *found;
  }
  return spec;
}

GenerationSpec RequestParser::Messages(const ApiJson& request) const {
  GenerationSpec spec = ChatForm(FromMessagesApi(request), Api::kMessages, {"max_tokens"});
  spec.n = 1;
  return spec;
}

ChatPrompt RequestParser::PromptOf(const ApiJson& chat_request) const {
  return chat_.Make(ReadChatRequest(Fields(chat_request)));
}

}  // namespace thermocline
