// Anthropic's messages and OpenAI's responses, as chat completions.
#include <fmt/format.h>

#include <utility>

#include "tools/serve/chat_request.h"

namespace thermocline {
namespace {

// ---- Anthropic's ----

// A tool's result as a message of role "tool".
ApiJson ToolResult(const Fields& block) {
  const ApiJson* content = block.Find("content");
  std::string text = content == nullptr ? "" : ContentText(*content, block.PathOf("content"));
  if (block.Bool("is_error").value_or(false)) text = "Error: " + text;
  return {{"role", "tool"},
          {"tool_call_id", block.RequiredText("tool_use_id")},
          {"content", std::move(text)}};
}

ApiJson ToolUse(const Fields& block) {
  const ApiJson* input = block.Object("input");
  return {{"id", block.RequiredText("id")},
          {"type", "function"},
          {"function",
           {{"name", block.RequiredText("name")},
            {"arguments", input == nullptr ? ApiJson::object() : *input}}}};
}

// Appends the messages that one of Anthropic's is: what tools answered comes first, since it
// answers the message before.
void AppendMessage(const ApiJson& json, const std::string& path, ApiJson* messages) {
  const Fields fields(json, path);
  const std::string role = fields.RequiredText("role");
  const ApiJson* content = fields.Find("content");
  if (content == nullptr || !content->is_array()) {
    messages->push_back(json);
    return;
  }
  ApiJson parts = ApiJson::array();
  ApiJson calls = ApiJson::array();
  std::string reasoning;
  for (size_t i = 0; i < content->size(); ++i) {
    const Fields block((*content)[i], fmt::format("{}.content[{}]", path, i));
    const std::string type = block.RequiredText("type");
    if (type == "tool_result") {
      messages->push_back(ToolResult(block));
    } else if (type == "tool_use") {
      calls.push_back(ToolUse(block));
    } else if (type == "thinking") {
      reasoning += block.RequiredText("thinking");
    } else if (type != "redacted_thinking") {
      parts.push_back((*content)[i]);
    }
  }
  if (parts.empty() && calls.empty() && reasoning.empty() && !content->empty()) return;
  ApiJson message = {{"role", role}, {"content", std::move(parts)}};
  if (!reasoning.empty()) message["reasoning_content"] = std::move(reasoning);
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  messages->push_back(std::move(message));
}

ApiJson ToolsOf(const ApiJson& list) {
  ApiJson tools = ApiJson::array();
  for (size_t i = 0; i < list.size(); ++i) {
    const Fields tool(list[i], fmt::format("tools[{}]", i));
    ApiJson function = {{"name", tool.RequiredText("name")}};
    if (const auto text = tool.Text("description")) function["description"] = *text;
    const ApiJson* schema = tool.Object("input_schema");
    if (schema == nullptr) schema = tool.Object("parameters");
    function["parameters"] = schema == nullptr
                                 ? ApiJson{{"type", "object"}, {"properties", ApiJson::object()}}
                                 : *schema;
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return tools;
}

void ConvertToolChoice(const Fields& fields, ApiJson* chat) {
  const ApiJson* choice = fields.Object("tool_choice");
  if (choice == nullptr) return;
  const Fields object(*choice, "tool_choice");
  const std::string type = object.RequiredText("type");
  if (type == "any") {
    (*chat)["tool_choice"] = "required";
  } else if (type == "tool") {
    (*chat)["tool_choice"] = {{"type", "function"},
                              {"function", {{"name", object.RequiredText("name")}}}};
  } else if (type == "auto" || type == "none") {
    (*chat)["tool_choice"] = type;
  } else {
    FailField("tool_choice.type", "'auto', 'any', 'tool' or 'none'", object.Find("type"));
  }
  if (object.Bool("disable_parallel_tool_use").value_or(false)) {
    (*chat)["parallel_tool_calls"] = false;
  }
}

void ConvertThinking(const Fields& fields, ApiJson* chat) {
  const ApiJson* thinking = fields.Object("thinking");
  if (thinking == nullptr) return;
  const std::string type = Fields(*thinking, "thinking").RequiredText("type");
  if (type != "enabled" && type != "disabled" && type != "adaptive") {
    FailField("thinking.type", "'enabled', 'adaptive' or 'disabled'",
              Fields(*thinking, "thinking").Find("type"));
  }
  (*chat)["chat_template_kwargs"]["enable_thinking"] = type != "disabled";
  chat->erase("thinking");
}

// ---- the responses' ----

// Appends a call or a thought to the assistant's message at the end, or begins one.
ApiJson& AssistantAtEnd(ApiJson* messages) {
  if (messages->empty() || messages->back()["role"] != "assistant") {
    messages->push_back({{"role", "assistant"}, {"content", ""}});
  }
  return messages->back();
}

std::string ReasoningText(const Fields& item) {
  std::string text;
  for (const char* name : {"content", "summary"}) {
    const ApiJson* parts = item.Array(name);
    if (parts == nullptr || !text.empty()) continue;
    for (size_t i = 0; i < parts->size(); ++i) {
      const Fields part((*parts)[i], fmt::format("{}[{}]", item.PathOf(name), i));
      text += part.RequiredText("text");
    }
  }
  return text;
}

std::string OutputText(const Fields& item) {
  const ApiJson* output = item.Find("output");
  return output == nullptr ? "" : ContentText(*output, item.PathOf("output"));
}

void AppendItem(const ApiJson& json, const std::string& path, ApiJson* messages) {
  const Fields item(json, path);
  const std::string type = item.Text("type").value_or("message");
  if (type == "message") {
    messages->push_back({{"role", item.RequiredText("role")}});
    if (const ApiJson* content = item.Find("content")) messages->back()["content"] = *content;
  } else if (type == "function_call") {
    ApiJson& message = AssistantAtEnd(messages);
    message["tool_calls"].push_back({{"id", item.RequiredText("call_id")},
                                     {"type", "function"},
                                     {"function",
                                      {{"name", item.RequiredText("name")},
                                       {"arguments", item.Text("arguments").value_or("{}")}}}});
  } else if (type == "function_call_output") {
    messages->push_back({{"role", "tool"},
                         {"tool_call_id", item.RequiredText("call_id")},
                         {"content", OutputText(item)}});
  } else if (type == "reasoning") {
    const std::string text = ReasoningText(item);
    if (!text.empty()) AssistantAtEnd(messages)["reasoning_content"] = text;
  } else {
    FailField(item.PathOf("type"),
              "'message', 'function_call', 'function_call_output' or 'reasoning'",
              item.Find("type"));
  }
}

ApiJson InputMessages(const Fields& fields) {
  ApiJson messages = ApiJson::array();
  if (const auto text = fields.Text("instructions")) {
    messages.push_back({{"role", "system"}, {"content", *text}});
  }
  const ApiJson* input = fields.Find("input");
  if (input == nullptr) FailField("input", "a text or an array of items", nullptr);
  if (input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", *input}});
    return messages;
  }
  if (!input->is_array()) FailField("input", "a text or an array of items", input);
  for (size_t i = 0; i < input->size(); ++i) {
    AppendItem((*input)[i], fmt::format("input[{}]", i), &messages);
  }
  return messages;
}

void ConvertFormat(const Fields& fields, ApiJson* chat) {
  const ApiJson* text = fields.Object("text");
  if (text == nullptr) return;
  const ApiJson* format = Fields(*text, "text").Object("format");
  if (format == nullptr) return;
  ApiJson converted = {{"type", Fields(*format, "text.format").RequiredText("type")}};
  if (converted["type"] == "json_schema") converted["json_schema"] = *format;
  (*chat)["response_format"] = std::move(converted);
}

}  // namespace

ApiJson FromMessagesApi(const ApiJson& request) {
  const Fields fields(request);
  ApiJson chat = request;
  ApiJson messages = ApiJson::array();
  if (const ApiJson* system = fields.Find("system")) {
    messages.push_back({{"role", "system"}, {"content", *system}});
  }
  const ApiJson& list = fields.RequiredArray("messages");
  for (size_t i = 0; i < list.size(); ++i) {
    AppendMessage(list[i], fmt::format("messages[{}]", i), &messages);
  }
  chat["messages"] = std::move(messages);
  chat.erase("system");
  if (const ApiJson* tools = fields.Array("tools")) chat["tools"] = ToolsOf(*tools);
  chat.erase("tool_choice");
  ConvertToolChoice(fields, &chat);
  ConvertThinking(fields, &chat);
  if (const ApiJson* stop = fields.Find("stop_sequences")) chat["stop"] = *stop;
  return chat;
}

ApiJson FromResponsesApi(const ApiJson& request) {
  const Fields fields(request);
  for (const char* stored : {"previous_response_id", "conversation"}) {
    if (!fields.Has(stored)) continue;
    FailField(stored, "nothing: no responses are stored here, send the whole conversation",
              fields.Find(stored));
  }
  ApiJson chat = request;
  chat["messages"] = InputMessages(fields);
  chat.erase("input");
  chat.erase("text");
  ConvertFormat(fields, &chat);
  if (const ApiJson* tools = fields.Array("tools")) chat["tools"] = ToolsOf(*tools);
  const ApiJson* choice = fields.Find("tool_choice");
  if (choice != nullptr && choice->is_object() && choice->contains("name")) {
    chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", (*choice)["name"]}}}};
  }
  if (const ApiJson* reasoning = fields.Object("reasoning")) {
    if (const auto effort = Fields(*reasoning, "reasoning").Text("effort")) {
      chat["reasoning_effort"] = *effort;
    }
  }
  return chat;
}

}  // namespace thermocline
