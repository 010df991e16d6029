// A conversation as a request brings it: OpenAI's chat completions are read as they are, the other
// two APIs are turned into them first.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/reply/tool_grammar.h"
#include "tools/serve/json_fields.h"

namespace thermocline {

struct ChatRequest {
  ApiJson messages = ApiJson::array();  // as templates take them: every content is a text
  ApiJson tools = nullptr;              // OpenAI's: [{"type": "function", "function": {...}}]
  std::vector<Tool> tool_list;          // the same
  ToolChoice tool_choice;
  bool parallel_calls = true;
  bool add_generation_prompt = true;
  bool continues_last = false;            // the last message is the beginning of the reply
  std::optional<bool> thinks;             // nullopt: as the server is set
  ApiJson variables = ApiJson::object();  // further ones of the template
};

// Reads "messages", "tools", "tool_choice", ... of a chat completion. Throws ApiError, or Error.
ChatRequest ReadChatRequest(const Fields& fields);

// Reads the messages alone. path: for messages.
ApiJson ReadMessages(const ApiJson& list, const std::string& path);
// A content (a text, an array of parts, null) as one text; parts are joined by `between`.
std::string ContentText(const ApiJson& content, const std::string& path,
                        const char* between = "\n");

// Turn a request of another API into a chat completion's. Members that are not a conversation's
// stay.
ApiJson FromMessagesApi(const ApiJson& request);
ApiJson FromResponsesApi(const ApiJson& request);

}  // namespace thermocline
