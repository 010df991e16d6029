#include "runtime/text/jinja/chat_template.h"

#include <fmt/format.h>

#include "runtime/text/jinja/evaluator.h"
#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/parser.h"

namespace thermocline {

struct ChatTemplate::Program {
  std::string name;
  jinja::Limits limits;
  jinja::Body body;
};

namespace {

using jinja::Value;

[[noreturn]] void ThrowAtLine(const jinja::Failure& failure, const std::string& name, int line) {
  ErrorInfo info = failure.info();
  info.path = name;
  if (line > 0) info.what = fmt::format("line {}: {}", line, info.what);
  throw Error(info);
}

Value FromJson(jinja::Runtime& runtime, const nlohmann::ordered_json& json) {
  const jinja::DepthGuard guard(runtime.budget());
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return Value::Bool(json.get<bool>());
    case Type::number_integer:
      return Value::Int(json.get<int64_t>());
    case Type::number_unsigned: {
      const auto number = json.get<uint64_t>();
      return number > INT64_MAX ? Value::Float(static_cast<double>(number))
                                : Value::Int(static_cast<int64_t>(number));
    }
    case Type::number_float:
      return Value::Float(json.get<double>());
    case Type::string:
      return runtime.Text(json.get_ref<const std::string&>());
    case Type::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(FromJson(runtime, item));
      return runtime.NewList(std::move(items));
    }
    case Type::object: {
      Value dict = runtime.NewDict();
      for (const auto& [key, item] : json.items()) {
        dict.as_dict().Set(runtime.budget(), runtime.Text(key), FromJson(runtime, item));
      }
      return dict;
    }
    default:
      return Value::None();
  }
}

std::tm LocalTime() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return local;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& source, std::string name,
                           const jinja::Limits& limits) {
  auto program = std::make_unique<Program>();
  program->name = std::move(name);
  program->limits = limits;
  try {
    program->body = jinja::ParseTemplate(source, limits);
  } catch (const jinja::Failure& failure) {
    ThrowAtLine(failure, program->name, failure.line());
  }
  program_ = std::move(program);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::Render(const ChatInput& input) const {
  nlohmann::ordered_json variables = {
      {"messages", input.messages},   {"tools", input.tools},
      {"documents", nullptr},         {"add_generation_prompt", input.add_generation_prompt},
      {"bos_token", input.bos_token}, {"eos_token", input.eos_token},
  };
  for (const auto& [name, value] : input.extra.items()) variables[name] = value;
  return RenderVariables(variables, input.now.has_value() ? *input.now : LocalTime());
}

std::string ChatTemplate::RenderVariables(const nlohmann::ordered_json& variables,
                                          const std::tm& now) const {
  jinja::Runtime runtime(program_->limits, now);
  auto context = std::make_shared<jinja::Scope>(nullptr);
  jinja::Evaluator evaluator(runtime, context);
  try {
    for (auto& [name, function] : jinja::GlobalFunctions(runtime)) {
      context->variables.insert_or_assign(name, function);
    }
    for (const auto& [name, value] : variables.items()) {
      context->variables.insert_or_assign(name, FromJson(runtime, value));
    }
    return evaluator.Run(program_->body);
  } catch (const jinja::Failure& failure) {
    ThrowAtLine(failure, program_->name, evaluator.line());
  }
}

}  // namespace thermocline
