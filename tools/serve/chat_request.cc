#include "tools/serve/chat_request.h"

#include <fmt/format.h>

#include <utility>

namespace thermocline {
namespace {

constexpr size_t kMaxMessages = 4096;
constexpr size_t kMaxParts = 1024;
constexpr size_t kMaxCalls = 512;

[[noreturn]] void FailMedia(const std::string& path, const std::string& kind) {
  throw ApiError(ApiErrorKind::kNoImages,
                 fmt::format("{} input is not supported: the model reads text alone", kind),
                 {{"param", path}});
}

std::string PartText(const ApiJson& part, const std::string& path) {
  const Fields fields(part, path);
  const std::string type = fields.RequiredText("type");
  if (type == "text" || type == "input_text" || type == "output_text") {
    return fields.RequiredText("text");
  }
  if (type == "refusal") return fields.RequiredText("refusal");
  if (type == "image_url" || type == "input_image" || type == "image") FailMedia(path, "image");
  if (type == "input_audio") FailMedia(path, "audio");
  if (type == "input_video") FailMedia(path, "video");
  if (type == "file" || type == "input_file" || type == "document") FailMedia(path, "file");
  FailField(fields.PathOf("type"), "'text'", fields.Find("type"));
}

// Templates write arguments as JSON: they get them parsed. Those that are no JSON stay a text.
ApiJson ReadCall(const ApiJson& call, const std::string& path) {
  const Fields fields(call, path);
  const ApiJson* function = fields.Object("function");
  if (function == nullptr) FailField(fields.PathOf("function"), "an object", nullptr);
  const Fields inner(*function, fields.PathOf("function"));
  ApiJson copy = call;
  copy["type"] = "function";
  copy["function"]["name"] = inner.RequiredText("name");
  const ApiJson* arguments = inner.Find("arguments");
  ApiJson parsed = ApiJson::object();
  if (arguments != nullptr && arguments->is_string()) {
    const auto& text = arguments->get_ref<const std::string&>();
    if (!text.empty()) {
      parsed = ParseBody(ApiJson::accept(text) ? text : Dump(ApiJson(text)));
      if (!parsed.is_object()) parsed = *arguments;
    }
  } else if (arguments != nullptr) {
    if (!arguments->is_object()) {
      FailField(inner.PathOf("arguments"), "a text of JSON, or an object", arguments);
    }
    parsed = *arguments;
  }
  copy["function"]["arguments"] = std::move(parsed);
  return copy;
}

ApiJson ReadMessage(const ApiJson& json, const std::string& path) {
  const Fields fields(json, path);
  ApiJson message = json;
  message["role"] = fields.RequiredText("role");
  bool has_more = fields.Has("reasoning_content");
  if (const ApiJson* calls = fields.Array("tool_calls")) {
    if (calls->size() > kMaxCalls) {
      FailField(fields.PathOf("tool_calls"), fmt::format("at most {} calls", kMaxCalls), calls);
    }
    ApiJson list = ApiJson::array();
    for (size_t i = 0; i < calls->size(); ++i) {
      list.push_back(ReadCall((*calls)[i], fmt::format("{}.tool_calls[{}]", path, i)));
    }
    has_more = has_more || !list.empty();
    if (list.empty()) {
      message.erase("tool_calls");
    } else {
      message["tool_calls"] = std::move(list);
    }
  }
  const ApiJson* content = fields.Find("content");
  if (content == nullptr && !has_more) {
    FailField(fields.PathOf("content"), "a text or an array of parts", nullptr);
  }
  message["content"] = content == nullptr ? "" : ContentText(*content, fields.PathOf("content"));
  return message;
}

void ReadContinuation(const Fields& fields, ChatRequest* request) {
  const auto generation_prompt = fields.Bool("add_generation_prompt");
  const auto continues = fields.Bool("continue_final_message");
  if (generation_prompt.value_or(false) && continues.value_or(false)) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   "'add_generation_prompt' and 'continue_final_message' cannot both be true");
  }
  request->add_generation_prompt = generation_prompt.value_or(true);
  const ApiJson& messages = request->messages;
  const size_t n = messages.size();
  const auto by_assistant = [&](size_t i) { return messages[i]["role"] == "assistant"; };
  // A conversation that ends with the assistant's words wants them continued.
  const bool ends_so = n > 0 && by_assistant(n - 1) && !messages[n - 1].contains("tool_calls");
  request->continues_last =
      continues.value_or(ends_so && generation_prompt.value_or(true)) && n > 0;
  if (request->continues_last && n >= 2 && by_assistant(n - 1) && by_assistant(n - 2)) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   "'messages': expected one reply of the assistant at the end, to be continued; "
                   "found two or more");
  }
}

void ReadThinking(const Fields& fields, ChatRequest* request) {
  if (const ApiJson* variables = fields.Object("chat_template_kwargs")) {
    request->variables = *variables;
    request->thinks = Fields(*variables, "chat_template_kwargs").Bool("enable_thinking");
  }
  if (const auto effort = fields.Text("reasoning_effort")) {
    if (*effort == "none") {
      request->thinks = false;
    } else {
      request->variables["reasoning_effort"] = *effort;
    }
  }
}

}  // namespace

std::string ContentText(const ApiJson& content, const std::string& path, const char* between) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array() || content.size() > kMaxParts) {
    FailField(path, fmt::format("a text or an array of at most {} parts", kMaxParts), &content);
  }
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string part = PartText(content[i], fmt::format("{}[{}]", path, i));
    if (!text.empty()) text += between;
    text += part;
  }
  return text;
}

ApiJson ReadMessages(const ApiJson& list, const std::string& path) {
  if (list.size() > kMaxMessages) {
    FailField(path, fmt::format("at most {} messages", kMaxMessages), &list);
  }
  ApiJson messages = ApiJson::array();
  for (size_t i = 0; i < list.size(); ++i) {
    messages.push_back(ReadMessage(list[i], fmt::format("{}[{}]", path, i)));
  }
  return messages;
}

ChatRequest ReadChatRequest(const Fields& fields) {
  ChatRequest request;
  const ApiJson& list = fields.RequiredArray("messages");
  request.messages = ReadMessages(list, "messages");
  // The text that a reply begins with keeps its parts apart as paragraphs.
  if (!list.empty() && list.back().contains("content") && list.back()["content"].is_array()) {
    const std::string path = fmt::format("messages[{}].content", list.size() - 1);
    if (request.messages.back()["role"] == "assistant") {
      request.messages.back()["content"] = ContentText(list.back()["content"], path, "\n\n");
    }
  }
  const ApiJson* tools = fields.Array("tools");
  if (tools != nullptr && !tools->empty()) {
    request.tools = *tools;
    request.tool_list = ReadTools(*tools);
  }
  if (const ApiJson* choice = fields.Find("tool_choice"))
    request.tool_choice = ReadToolChoice(*choice);
  request.parallel_calls = fields.Bool("parallel_tool_calls").value_or(true);
  ReadContinuation(fields, &request);
  ReadThinking(fields, &request);
  return request;
}

}  // namespace thermocline
