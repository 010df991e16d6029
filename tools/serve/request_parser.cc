#include "tools/serve/request_parser.h"

#include <utility>

#include "tools/serve/prompt_fields.h"
#include "tools/serve/stop_strings.h"

namespace thermocline {
namespace {

constexpr size_t kMaxResponseFields = 64;
constexpr int64_t kMaxTopLogprobs = 100;

// A reply of any JSON object.
const Json& AnyObject() {
  static const Json kSchema = {{"type", "object"}};
  return kSchema;
}

}  // namespace

GenerationSpec RequestParser::Base(const Json& request, Api api) const {
  const Fields fields(request);
  GenerationSpec spec;
  spec.api = api;
  ReadGenerationFields(fields, defaults_, tokenizer_, &spec);
  SetStopStrings(fields.Texts("stop", StopStrings::kMaxStrings), "stop", &spec);
  ReadTokenLimit(fields, {}, defaults_, &spec);
  return spec;
}

void RequestParser::ReadResponseFormat(const Json& format, GenerationSpec* spec) const {
  const Fields fields(format, "response_format");
  const std::string type = fields.RequiredText("type");
  if (type == "text") return;
  const Json* schema = nullptr;
  if (type == "json_object") {
    schema = fields.Find("schema");
    if (schema == nullptr) schema = &AnyObject();
  } else if (type == "json_schema") {
    const Json* inner = fields.Object("json_schema");
    if (inner == nullptr) FailField("response_format.json_schema", "an object", nullptr);
    schema = Fields(*inner, "response_format.json_schema").Find("schema");
    if (schema == nullptr) FailField("response_format.json_schema.schema", "a schema", nullptr);
  } else {
    FailField("response_format.type", "'text', 'json_object' or 'json_schema'",
              fields.Find("type"));
  }
  spec->mask = constraints_.OfSchema(*schema, spec->ends);
}

void RequestParser::ReadConstraint(const Fields& fields, GenerationSpec* spec) const {
  const auto grammar = fields.Text("grammar");
  const Json* schema = fields.Find("json_schema");
  const Json* format = fields.Object("response_format");
  const bool has_grammar = grammar && !grammar->empty();
  if (has_grammar && schema != nullptr) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   "'grammar' and 'json_schema' cannot both be given");
  }
  if (has_grammar) {
    spec->grammar = *grammar;
    spec->mask = constraints_.OfGrammar(*grammar, spec->ends);
  } else if (schema != nullptr) {
    spec->mask = constraints_.OfSchema(*schema, spec->ends);
  } else if (format != nullptr) {
    ReadResponseFormat(*format, spec);
  }
}

GenerationSpec RequestParser::Native(const Json& request) const {
  const Fields fields(request);
  GenerationSpec spec = Base(request, Api::kNative);
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) FailField("prompt", "a text or token ids", nullptr);
  spec.prompts = ReadPrompts(*prompt, "prompt", tokenizer_);
  ReadTokenLimit(fields, {"n_predict", "max_tokens"}, defaults_, &spec);
  spec.response_fields = fields.Texts("response_fields", kMaxResponseFields);
  ReadConstraint(fields, &spec);
  return spec;
}

GenerationSpec RequestParser::TextCompletions(const Json& request) const {
  const Fields fields(request);
  GenerationSpec spec = Base(request, Api::kTextCompletions);
  const Json* prompt = fields.Find("prompt");
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
  ReadConstraint(fields, &spec);
  return spec;
}

GenerationSpec RequestParser::ChatForm(const Json& chat_request, Api api,
                                       std::initializer_list<const char*> limits) const {
  const Fields fields(chat_request);
  GenerationSpec spec = Base(chat_request, api);
  ReadTokenLimit(fields, limits, defaults_, &spec);
  const ChatRequest chat = ReadChatRequest(fields);
  if (!chat.tools.is_null() && chat.tool_choice != "none") {
    throw ApiError(ApiErrorKind::kInvalidRequest, "'tools' are not supported");
  }
  spec.ends = chat_.reply_ends();
  ReadConstraint(fields, &spec);
  spec.prompts.push_back(chat_.Make(chat).ids);
  return spec;
}

GenerationSpec RequestParser::Chat(const Json& request) const {
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

GenerationSpec RequestParser::Responses(const Json& request) const {
  GenerationSpec spec =
      ChatForm(FromResponsesApi(request), Api::kResponses, {"max_output_tokens", "max_tokens"});
  spec.n = 1;
  for (const char* name : {"instructions", "max_output_tokens", "metadata", "tools",
                           "tool_choice", "parallel_tool_calls", "text", "reasoning"}) {
    const auto found = request.find(name);
    if (found != request.end()) spec.echoed[name] = *found;
  }
  return spec;
}

GenerationSpec RequestParser::Messages(const Json& request) const {
  GenerationSpec spec = ChatForm(FromMessagesApi(request), Api::kMessages, {"max_tokens"});
  spec.n = 1;
  return spec;
}

ChatPrompt RequestParser::PromptOf(const Json& chat_request) const {
  return chat_.Make(ReadChatRequest(Fields(chat_request)));
}

}  // namespace thermocline
