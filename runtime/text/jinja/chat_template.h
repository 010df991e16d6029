// A model's chat template: it turns a conversation into the text of a prompt. Templates are written
// for Python's jinja2 as transformers sets it up (trim_blocks, lstrip_blocks, `break` and
// `continue`, `generation` blocks, `raise_exception`, `strftime_now`, a `tojson` that escapes
// nothing for HTML), and what they give here is what they give there. It differs in this:
//   * lists and dicts can be changed by methods; transformers refuses that;
//   * integers have 64 bits; an error says so where Python would go on;
//   * filters such as `map` give lists, which have a length; in jinja2 they are generators;
//   * `safe` and `escape` give plain strings.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "runtime/text/jinja/budget.h"

namespace thermocline {

// What a template is given. Keys of objects keep their order.
struct ChatInput {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json tools = nullptr;  // null: the template sees none
  bool add_generation_prompt = true;
  std::string bos_token = {};
  std::string eos_token = {};
  // Further variables, an object: {"enable_thinking": false, "documents": [...]}. They take
  // precedence over those above.
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();
  // Local time as `strftime_now` shows it; nullopt: the time of the rendering.
  std::optional<std::tm> now = std::nullopt;
};

class ChatTemplate {
 public:
  // `name`: the file the template is from, for messages. Throws Error, with the line, for a
  // template that is not well-formed or nests too deep.
  ChatTemplate(const std::string& source, std::string name, const jinja::Limits& limits = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // Returns the prompt. Throws Error, with the line, where the template refuses the conversation,
  // does what Python would raise an exception for, or passes a limit. Threads may render at the
  // same time.
  std::string Render(const ChatInput& input) const;
  // The same with nothing but the variables of an object.
  std::string RenderVariables(const nlohmann::ordered_json& variables, const std::tm& now) const;

 private:
  struct Program;
  std::unique_ptr<const Program> program_;
};

}  // namespace thermocline
