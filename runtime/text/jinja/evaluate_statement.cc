#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/evaluator.h"
#include "runtime/text/jinja/loop_object.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"

namespace thermocline::jinja {
namespace {

class Macro : public Object {
 public:
  Macro(Evaluator* evaluator, const Statement* definition, std::shared_ptr<Scope> scope)
      : evaluator_(evaluator), definition_(definition), scope_(std::move(scope)) {}
  std::string type_name() const override { return "macro"; }
  bool callable() const override { return true; }

  Value Attribute(Runtime& runtime, const std::string& name) override {
    if (name == "name") return runtime.Text(definition_->text);
    return Object::Attribute(runtime, name);
  }
  Value Call(Runtime&, const Arguments& arguments) override {
    return evaluator_->CallMacro(*definition_, scope_, arguments);
  }

 private:
  Evaluator* evaluator_;
  const Statement* definition_;
  std::shared_ptr<Scope> scope_;
};

}  // namespace

const Value* Scope::Find(const std::string& name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer.get()) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return &found->second;
  }
  return nullptr;
}

std::string Evaluator::Run(const Body& body) {
  OutputBuffer output(runtime_.budget());
  output_ = &output;
  Execute(body);
  return output.Take();
}

Evaluator::Flow Evaluator::Execute(const Body& body) {
  const DepthGuard guard(runtime_.budget());
  for (const Statement& statement : body) {
    const Flow flow = ExecuteStatement(statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::ExecuteStatement(const Statement& statement) {
  runtime_.budget().Spend(1);
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::kText:
      output_->Append(statement.text);
      break;
    case StatementKind::kPrint:
      output_->Append(TextOf(runtime_, Eval(*statement.value)));
      break;
    case StatementKind::kIf:
      return ExecuteIf(statement);
    case StatementKind::kFor:
      return ExecuteFor(statement);
    case StatementKind::kSet:
      Assign(*statement.target, Eval(*statement.value));
      break;
    case StatementKind::kSetBlock:
      Assign(*statement.target, FilterBlock(statement));
      break;
    case StatementKind::kWith:
      ExecuteWith(statement);
      break;
    case StatementKind::kMacro:
      SetVariable(statement.text, Value::Of(runtime_.Make<Macro>(this, &statement, scope_)));
      break;
    case StatementKind::kCallBlock:
      ExecuteCallBlock(statement);
      break;
    case StatementKind::kFilterBlock:
      output_->Append(TextOf(runtime_, FilterBlock(statement)));
      break;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::ExecuteIf(const Statement& statement) {
  for (const Branch& branch : statement.branches) {
    if (branch.condition == nullptr || IsTrue(Eval(*branch.condition))) {
      return Execute(branch.body);
    }
  }
  return Flow::kNext;
}

// The items of the loop, those that its condition leaves.
std::vector<Value> Evaluator::LoopItems(const Statement& statement) {
  std::vector<Value> items = Iterate(runtime_, Eval(*statement.value));
  if (statement.condition == nullptr) return items;
  std::vector<Value> chosen;
  PushScope();
  for (Value& item : items) {
    runtime_.budget().Spend(1);
    Assign(*statement.target, item);
    if (IsTrue(Eval(*statement.condition))) chosen.push_back(std::move(item));
  }
  PopScope();
  return chosen;
}

Evaluator::Flow Evaluator::ExecuteFor(const Statement& statement) {
  const std::vector<Value> items = LoopItems(statement);
  if (items.empty()) {
    PushScope();
    const Flow flow = Execute(statement.else_body);
    PopScope();
    return flow;
  }
  const Value* around = scope_->Find("loop");
  const auto* outer = around != nullptr && around->Is(Kind::kObject)
                          ? dynamic_cast<const LoopObject*>(&around->as_object())
                          : nullptr;
  auto* loop = runtime_.Make<LoopObject>(&items, outer == nullptr ? 1 : outer->depth() + 1);
  for (size_t i = 0; i < items.size(); ++i) {
    runtime_.budget().Spend(4);
    loop->MoveTo(static_cast<int64_t>(i));
    PushScope();
    SetVariable("loop", Value::Of(loop));
    Assign(*statement.target, items[i]);
    const Flow flow = Execute(statement.body);
    PopScope();
    if (flow == Flow::kBreak) break;
  }
  loop->End();
  return Flow::kNext;
}

std::string Evaluator::Capture(const Body& body) {
  OutputBuffer captured(runtime_.budget());
  OutputBuffer* outer = std::exchange(output_, &captured);
  PushScope();
  Execute(body);
  PopScope();
  output_ = outer;
  return captured.Take();
}

Value Evaluator::FilterBlock(const Statement& statement) {
  Value text = runtime_.Text(Capture(statement.body));
  const Value outer = std::exchange(block_text_, std::move(text));
  Value filtered = Eval(*statement.value);
  block_text_ = outer;
  return filtered;
}

void Evaluator::ExecuteWith(const Statement& statement) {
  std::vector<Value> values;
  for (const auto& [target, value] : statement.assignments) values.push_back(Eval(*value));
  PushScope();
  for (size_t i = 0; i < values.size(); ++i) {
    Assign(*statement.assignments[i].first, values[i]);
  }
  Execute(statement.body);
  PopScope();
}

void Evaluator::ExecuteCallBlock(const Statement& statement) {
  const Value callee = Eval(*statement.value->operands[0]);
  Arguments arguments = EvalArguments(*statement.value);
  arguments.named.emplace_back("caller", Value::Of(runtime_.Make<Macro>(this, &statement, scope_)));
  output_->Append(TextOf(runtime_, CallValue(runtime_, callee, arguments)));
}

void Evaluator::SetVariable(const std::string& name, const Value& value) {
  scope_->variables.insert_or_assign(name, value);
}

void Evaluator::Assign(const Expression& target, const Value& value) {
  if (target.kind == ExpressionKind::kName) return SetVariable(target.name, value);
  if (target.kind == ExpressionKind::kAttribute) return AssignAttribute(target, value);
  const std::vector<Value> items = Iterate(runtime_, value);
  if (items.size() != target.operands.size()) {
    Fail("a value that does not go into its names", fmt::format("{} items", target.operands.size()),
         fmt::format("{}", items.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) Assign(*target.operands[i], items[i]);
}

void Evaluator::AssignAttribute(const Expression& target, const Value& value) {
  const Value owner = Eval(*target.operands[0]);
  auto* space = owner.Is(Kind::kObject) ? dynamic_cast<Namespace*>(&owner.as_object()) : nullptr;
  if (space == nullptr) {
    Fail("an attribute is set of what is no namespace", "a namespace", TypeName(owner));
  }
  space->attributes.Set(runtime_.budget(), runtime_.Text(target.name), value);
}

void Evaluator::BindParameters(const Statement& macro, const Arguments& arguments) {
  const std::vector<Parameter>& parameters = macro.parameters;
  const size_t n_positional = std::min(arguments.positional.size(), parameters.size());
  std::vector<bool> given(parameters.size(), false);
  for (size_t i = 0; i < n_positional; ++i) {
    SetVariable(parameters[i].name, arguments.positional[i]);
    given[i] = true;
  }
  Value rest = runtime_.NewDict();
  for (const auto& [name, value] : arguments.named) {
    const auto is_named = [&key = name](const Parameter& parameter) {
      return parameter.name == key;
    };
    const auto at = std::find_if(parameters.begin(), parameters.end(), is_named);
    if (at != parameters.end()) {
      const auto index = static_cast<size_t>(at - parameters.begin());
      if (given[index]) Fail(fmt::format("macro '{}' is given '{}' twice", macro.text, name));
      SetVariable(name, value);
      given[index] = true;
    } else if (name == "caller") {
      SetVariable(name, value);
    } else {
      if (!macro.takes_kwargs) Fail(fmt::format("macro '{}' has no '{}'", macro.text, name));
      rest.as_dict().Set(runtime_.budget(), runtime_.Text(name), value);
    }
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (given[i]) continue;
    SetVariable(parameters[i].name, parameters[i].default_value == nullptr
                                        ? Value::Undefined("'" + parameters[i].name + "'")
                                        : Eval(*parameters[i].default_value));
  }
  const auto begin = arguments.positional.begin() + static_cast<std::ptrdiff_t>(n_positional);
  const std::vector<Value> more(begin, arguments.positional.end());
  if (!more.empty() && !macro.takes_varargs) {
    Fail(fmt::format("too many arguments for macro '{}'", macro.text),
         fmt::format("at most {}", parameters.size()),
         fmt::format("{}", arguments.positional.size()));
  }
  if (macro.takes_varargs) SetVariable("varargs", runtime_.NewTuple(more));
  if (macro.takes_kwargs) SetVariable("kwargs", rest);
}

Value Evaluator::CallMacro(const Statement& macro, const std::shared_ptr<Scope>& scope,
                           const Arguments& arguments) {
  const DepthGuard guard(runtime_.budget());
  const std::shared_ptr<Scope> outer = std::exchange(scope_, std::make_shared<Scope>(scope));
  // A macro sees no caller but its own.
  if (macro.kind == StatementKind::kMacro) SetVariable("caller", Value::Undefined("'caller'"));
  BindParameters(macro, arguments);
  const int line = line_;
  std::string text = Capture(macro.body);
  line_ = line;
  scope_ = outer;
  return runtime_.Text(std::move(text));
}

}  // namespace thermocline::jinja
