#include <fmt/format.h>

#include "runtime/text/jinja/evaluator.h"
#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"

namespace thermocline::jinja {

Value Evaluator::Eval(const Expression& expression) {
  const DepthGuard guard(runtime_.budget());
  runtime_.budget().Spend(1);
  // A failure leaves line_ where it is.
  const int outer_line = std::exchange(line_, expression.line);
  Value value = EvalKind(expression);
  line_ = outer_line;
  return value;
}

Value Evaluator::EvalKind(const Expression& expression) {
  const auto operand = [&](size_t index) { return Eval(*expression.operands[index]); };
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.value;
    case ExpressionKind::kName:
      return EvalName(expression);
    case ExpressionKind::kBlockText:
      return block_text_;
    case ExpressionKind::kList:
    case ExpressionKind::kTuple:
    case ExpressionKind::kDict:
      return EvalItems(expression);
    case ExpressionKind::kNot:
      return Value::Bool(!IsTrue(operand(0)));
    case ExpressionKind::kNegative:
      return Negate(operand(0));
    case ExpressionKind::kPositive:
      return Negate(Negate(operand(0)));
    case ExpressionKind::kAnd: {
      Value left = operand(0);
      return IsTrue(left) ? operand(1) : left;
    }
    case ExpressionKind::kOr: {
      Value left = operand(0);
      return IsTrue(left) ? left : operand(1);
    }
    case ExpressionKind::kArithmetic: {
      const Value left = operand(0);
      return Calculate(runtime_, expression.operators[0], left, operand(1));
    }
    case ExpressionKind::kConcat:
      return EvalConcat(expression);
    case ExpressionKind::kCompare:
      return EvalCompare(expression);
    case ExpressionKind::kConditional:
      return EvalConditional(expression);
    case ExpressionKind::kFilter: {
      const Value input = operand(0);
      return ApplyFilter(runtime_, expression.name, input, EvalArguments(expression));
    }
    case ExpressionKind::kTest: {
      const Value input = operand(0);
      return Value::Bool(ApplyTest(runtime_, expression.name, input, EvalArguments(expression)));
    }
    case ExpressionKind::kCall: {
      const Value callee = operand(0);
      return CallValue(runtime_, callee, EvalArguments(expression));
    }
    case ExpressionKind::kAttribute:
      return GetAttribute(runtime_, operand(0), expression.name);
    case ExpressionKind::kSubscript: {
      const Value owner = operand(0);
      return GetItem(runtime_, owner, operand(1));
    }
    case ExpressionKind::kSlice:
      return EvalSlice(expression);
  }
  return {};
}

Value Evaluator::EvalName(const Expression& expression) const {
  const Value* found = scope_->Find(expression.name);
  return found != nullptr ? *found : Value::Undefined("'" + expression.name + "'");
}

Value Evaluator::EvalItems(const Expression& expression) {
  if (expression.kind == ExpressionKind::kDict) {
    Value dict = runtime_.NewDict();
    for (size_t i = 0; i < expression.operands.size(); i += 2) {
      const Value key = Eval(*expression.operands[i]);
      dict.as_dict().Set(runtime_.budget(), key, Eval(*expression.operands[i + 1]));
    }
    return dict;
  }
  std::vector<Value> items;
  for (const ExpressionPtr& operand : expression.operands) items.push_back(Eval(*operand));
  const bool is_tuple = expression.kind == ExpressionKind::kTuple;
  return is_tuple ? runtime_.NewTuple(std::move(items)) : runtime_.NewList(std::move(items));
}

Value Evaluator::EvalConcat(const Expression& expression) {
  std::string text;
  for (const ExpressionPtr& operand : expression.operands) {
    text += TextOf(runtime_, Eval(*operand));
    runtime_.budget().CheckSize(text.size());
  }
  return runtime_.Text(std::move(text));
}

Value Evaluator::EvalCompare(const Expression& expression) {
  Value left = Eval(*expression.operands[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = Eval(*expression.operands[i + 1]);
    if (!Compare(runtime_, expression.operators[i], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Evaluator::EvalConditional(const Expression& expression) {
  if (IsTrue(Eval(*expression.operands[1]))) return Eval(*expression.operands[0]);
  if (expression.operands[2] != nullptr) return Eval(*expression.operands[2]);
  return Value::Undefined("the value of an inline 'if' that is false and has no 'else'");
}

Value Evaluator::EvalSlice(const Expression& expression) {
  const Value owner = Eval(*expression.operands[0]);
  const auto bound = [&](size_t index) {
    const ExpressionPtr& part = expression.operands[index];
    return part == nullptr ? Value::None() : Eval(*part);
  };
  const Value start = bound(1);
  const Value stop = bound(2);
  return Slice(runtime_, owner, start, stop, bound(3));
}

Arguments Evaluator::EvalArguments(const Expression& expression) {
  Arguments arguments;
  for (const Argument& argument : expression.arguments) {
    Value value = Eval(*argument.value);
    if (argument.spread == Spread::kList) {
      for (Value& item : Iterate(runtime_, value)) arguments.positional.push_back(std::move(item));
    } else if (argument.spread == Spread::kDict) {
      if (!value.Is(Kind::kDict)) Fail("'**' goes before a dict", {}, TypeName(value));
      for (const auto& [key, item] : value.as_dict().entries()) {
        arguments.named.emplace_back(RequireString(key, "the name of an argument"), item);
      }
    } else if (!argument.name.empty()) {
      arguments.named.emplace_back(argument.name, std::move(value));
    } else {
      arguments.positional.push_back(std::move(value));
    }
  }
  return arguments;
}

}  // namespace thermocline::jinja
