// Walks the tree of a template and writes its text.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/text/jinja/ast.h"
#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

// Variables. A name that a scope lacks is looked for in the scope around it.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> around) : outer(std::move(around)) {}
  const Value* Find(const std::string& name) const;

  std::shared_ptr<Scope> outer;
  std::map<std::string, Value> variables = {};
};

class Evaluator {
 public:
  // `context` holds what the template is given. Both outlive the evaluator.
  Evaluator(Runtime& runtime, std::shared_ptr<Scope> context)
      : runtime_(runtime), scope_(std::make_shared<Scope>(std::move(context))) {}

  // Returns what the statements write. Throws Failure; line() is then where.
  std::string Run(const Body& body);
  int line() const { return line_; }

  // Returns what a macro writes. `scope`: where it was defined.
  Value CallMacro(const Statement& macro, const std::shared_ptr<Scope>& scope,
                  const Arguments& arguments);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // ---- statements ----
  Flow Execute(const Body& body);
  Flow ExecuteStatement(const Statement& statement);
  Flow ExecuteIf(const Statement& statement);
  Flow ExecuteFor(const Statement& statement);
  void ExecuteCallBlock(const Statement& statement);
  void ExecuteWith(const Statement& statement);
  // Executes the body in a scope of its own and returns what it writes.
  std::string Capture(const Body& body);
  // Gives the block's text to the filters of `statement`.
  Value FilterBlock(const Statement& statement);
  void Assign(const Expression& target, const Value& value);
  void AssignAttribute(const Expression& target, const Value& value);
  std::vector<Value> LoopItems(const Statement& statement);
  void BindParameters(const Statement& macro, const Arguments& arguments);
  void PushScope() { scope_ = std::make_shared<Scope>(scope_); }
  void PopScope() { scope_ = scope_->outer; }
  void SetVariable(const std::string& name, const Value& value);

  // ---- expressions ----
  Value Eval(const Expression& expression);
  Value EvalKind(const Expression& expression);
  Value EvalName(const Expression& expression) const;
  Value EvalItems(const Expression& expression);
  Value EvalConcat(const Expression& expression);
  Value EvalCompare(const Expression& expression);
  Value EvalConditional(const Expression& expression);
  Value EvalSlice(const Expression& expression);
  Arguments EvalArguments(const Expression& expression);

  Runtime& runtime_;
  std::shared_ptr<Scope> scope_;
  OutputBuffer* output_ = nullptr;
  Value block_text_;
  int line_ = 0;
};

}  // namespace thermocline::jinja
