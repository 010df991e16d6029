#include "runtime/text/jinja/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

bool ListsEqual(Runtime& runtime, const List& left, const List& right) {
  if (left.is_tuple != right.is_tuple || left.items.size() != right.items.size()) return false;
  for (size_t i = 0; i < left.items.size(); ++i) {
    if (!Equals(runtime, left.items[i], right.items[i])) return false;
  }
  return true;
}

bool DictsEqual(Runtime& runtime, const Dict& left, const Dict& right) {
  if (left.size() != right.size()) return false;
  for (const auto& [key, value] : left.entries()) {
    const Value* other = right.Find(key);
    if (other == nullptr || !Equals(runtime, value, *other)) return false;
  }
  return true;
}

[[noreturn]] void FailOperands(const std::string& op, const Value& left, const Value& right) {
  RequireDefined(left);
  RequireDefined(right);
  Fail(fmt::format("'{}' does not go with these values", op), {},
       fmt::format("{} and {}", TypeName(left), TypeName(right)));
}

// `compute` stores the result and returns whether it overflows.
template <typename Compute>
Value IntegerResult(Compute compute) {
  int64_t result = 0;
  if (compute(&result)) Fail("an integer that does not fit 64 bits");
  return Value::Int(result);
}

Value IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) Fail("division by zero");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  // 0, 1 and -1 stay small however often they are multiplied.
  if (base >= -1 && base <= 1) exponent = exponent == 0 ? 0 : 2 - exponent % 2;
  return IntegerResult([&](int64_t* result) {
    *result = 1;
    bool overflows = false;
    for (int64_t i = 0; i < exponent && !overflows; ++i) {
      overflows = __builtin_mul_overflow(*result, base, result);
    }
    return overflows;
  });
}

int64_t FloorDivide(int64_t left, int64_t right) {
  const int64_t quotient = left / right;
  return quotient - ((left % right != 0 && (left < 0) != (right < 0)) ? 1 : 0);
}

Value CalculateIntegers(Operator op, int64_t left, int64_t right) {
  switch (op) {
    case Operator::kAdd:
      return IntegerResult([=](int64_t* sum) { return __builtin_add_overflow(left, right, sum); });
    case Operator::kSubtract:
      return IntegerResult(
          [=](int64_t* difference) { return __builtin_sub_overflow(left, right, difference); });
    case Operator::kMultiply:
      return IntegerResult(
          [=](int64_t* product) { return __builtin_mul_overflow(left, right, product); });
    case Operator::kPower:
      return IntegerPower(left, right);
    default:
      break;
  }
  if (right == 0) Fail("division by zero");
  if (op == Operator::kDivide) {
    return Value::Float(static_cast<double>(left) / static_cast<double>(right));
  }
  if (right == -1) {  // left / right has no 64 bits for the least number
    if (op == Operator::kModulo) return Value::Int(0);
    return CalculateIntegers(Operator::kSubtract, 0, left);
  }
  const int64_t quotient = FloorDivide(left, right);
  return Value::Int(op == Operator::kFloorDivide ? quotient : left - quotient * right);
}

Value CalculateFloats(Operator op, double left, double right) {
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && right == 0) Fail("division by zero");
  switch (op) {
    case Operator::kAdd:
      return Value::Float(left + right);
    case Operator::kSubtract:
      return Value::Float(left - right);
    case Operator::kMultiply:
      return Value::Float(left * right);
    case Operator::kDivide:
      return Value::Float(left / right);
    case Operator::kFloorDivide:
      return Value::Float(std::floor(left / right));
    case Operator::kModulo: {
      const double rest = std::fmod(left, right);
      return Value::Float(rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest);
    }
    default:
      return Value::Float(std::pow(left, right));
  }
}

Value Repeat(Runtime& runtime, const Value& sequence, int64_t count) {
  const auto times = static_cast<uint64_t>(std::max<int64_t>(count, 0));
  if (sequence.Is(Kind::kString)) {
    const std::string& text = sequence.as_string();
    uint64_t n_bytes = 0;
    if (__builtin_mul_overflow(text.size(), times, &n_bytes)) n_bytes = UINT64_MAX;
    runtime.budget().CheckSize(n_bytes);
    std::string repeated;
    repeated.reserve(n_bytes);
    for (uint64_t i = 0; i < times && !text.empty(); ++i) repeated += text;
    return runtime.Text(std::move(repeated));
  }
  const std::vector<Value>& items = sequence.as_list().items;
  Value repeated = runtime.NewList();
  repeated.as_list().is_tuple = sequence.as_list().is_tuple;
  for (uint64_t i = 0; i < times && !items.empty(); ++i) {
    for (const Value& item : items) runtime.Append(repeated.as_list(), item);
  }
  return repeated;
}

Value Add(Runtime& runtime, const Value& left, const Value& right) {
  if (left.Is(Kind::kString) && right.Is(Kind::kString)) {
    runtime.budget().CheckSize(left.as_string().size() + right.as_string().size());
    return runtime.Text(left.as_string() + right.as_string());
  }
  const bool lists = left.Is(Kind::kList) && right.Is(Kind::kList) &&
                     left.as_list().is_tuple == right.as_list().is_tuple;
  if (!lists) FailOperands("+", left, right);
  std::vector<Value> items = left.as_list().items;
  const std::vector<Value>& more = right.as_list().items;
  items.insert(items.end(), more.begin(), more.end());
  Value sum = runtime.NewList(std::move(items));
  sum.as_list().is_tuple = left.as_list().is_tuple;
  return sum;
}

const char* OperatorText(Operator op) {
  constexpr const char* kTexts[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kTexts[static_cast<size_t>(op)];
}

}  // namespace

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kFloat:
      return value.as_float() != 0;
    case Kind::kString:
      return !value.as_string().empty();
    case Kind::kList:
      return !value.as_list().items.empty();
    case Kind::kDict:
      return value.as_dict().size() > 0;
    case Kind::kObject:
      return true;
  }
  return false;
}

void RequireDefined(const Value& value) {
  if (!value.Is(Kind::kUndefined)) return;
  Fail(value.about().empty() ? "an undefined value is used" : value.about() + " is undefined");
}

bool Equals(Runtime& runtime, const Value& left, const Value& right) {
  const DepthGuard guard(runtime.budget());
  runtime.budget().Spend(1);
  if (left.IsNumber() && right.IsNumber()) {
    if (left.IsInteger() && right.IsInteger()) return left.as_int() == right.as_int();
    return left.as_float() == right.as_float();
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kString:
      runtime.budget().SpendBytes(left.as_string().size());
      return left.as_string() == right.as_string();
    case Kind::kList:
      return ListsEqual(runtime, left.as_list(), right.as_list());
    case Kind::kDict:
      return DictsEqual(runtime, left.as_dict(), right.as_dict());
    case Kind::kObject:
      return &left.as_object() == &right.as_object();
    default:
      return true;  // undefined or none, both
  }
}

bool IsLess(Runtime& runtime, const Value& left, const Value& right) {
  const DepthGuard guard(runtime.budget());
  runtime.budget().Spend(1);
  if (left.IsNumber() && right.IsNumber()) {
    if (left.IsInteger() && right.IsInteger()) return left.as_int() < right.as_int();
    return left.as_float() < right.as_float();
  }
  if (left.Is(Kind::kString) && right.Is(Kind::kString)) {
    runtime.budget().SpendBytes(left.as_string().size());
    return left.as_string() < right.as_string();  // UTF-8 sorts as its characters do
  }
  if (!left.Is(Kind::kList) || !right.Is(Kind::kList)) FailOperands("<", left, right);
  const std::vector<Value>& a = left.as_list().items;
  const std::vector<Value>& b = right.as_list().items;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!Equals(runtime, a[i], b[i])) return IsLess(runtime, a[i], b[i]);
  }
  return a.size() < b.size();
}

bool Contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!item.Is(Kind::kString)) FailOperands("in", item, container);
      runtime.budget().SpendBytes(container.as_string().size());
      return FindText(container.as_string(), item.as_string()) != std::string_view::npos;
    case Kind::kList: {
      const std::vector<Value>& items = container.as_list().items;
      return std::any_of(items.begin(), items.end(),
                         [&](const Value& other) { return Equals(runtime, other, item); });
    }
    case Kind::kDict:
      return container.as_dict().Find(item) != nullptr;
    default:
      FailOperands("in", item, container);
  }
}

bool Compare(Runtime& runtime, Operator op, const Value& left, const Value& right) {
  const bool ordered = op == Operator::kLess || op == Operator::kLessEqual ||
                       op == Operator::kGreater || op == Operator::kGreaterEqual;
  // No order holds between nan and a number.
  if (ordered && left.IsNumber() && right.IsNumber() &&
      (std::isnan(left.as_float()) || std::isnan(right.as_float()))) {
    return false;
  }
  switch (op) {
    case Operator::kEqual:
      return Equals(runtime, left, right);
    case Operator::kNotEqual:
      return !Equals(runtime, left, right);
    case Operator::kLess:
      return IsLess(runtime, left, right);
    case Operator::kLessEqual:
      return !IsLess(runtime, right, left);
    case Operator::kGreater:
      return IsLess(runtime, right, left);
    case Operator::kGreaterEqual:
      return !IsLess(runtime, left, right);
    case Operator::kIn:
      return Contains(runtime, right, left);
    case Operator::kNotIn:
      return !Contains(runtime, right, left);
    default:
      CHECK(false);
  }
}

Value Calculate(Runtime& runtime, Operator op, const Value& left, const Value& right) {
  if (left.IsInteger() && right.IsInteger()) {
    return CalculateIntegers(op, left.as_int(), right.as_int());
  }
  if (left.IsNumber() && right.IsNumber()) {
    return CalculateFloats(op, left.as_float(), right.as_float());
  }
  if (op == Operator::kAdd) return Add(runtime, left, right);
  if (op == Operator::kModulo && left.Is(Kind::kString)) {
    return FormatPercent(runtime, left.as_string(), right);
  }
  const auto is_sequence = [](const Value& value) {
    return value.Is(Kind::kString) || value.Is(Kind::kList);
  };
  if (op == Operator::kMultiply && is_sequence(left) && right.IsInteger()) {
    return Repeat(runtime, left, right.as_int());
  }
  if (op == Operator::kMultiply && left.IsInteger() && is_sequence(right)) {
    return Repeat(runtime, right, left.as_int());
  }
  FailOperands(OperatorText(op), left, right);
}

Value Negate(const Value& value) {
  if (value.Is(Kind::kFloat)) return Value::Float(-value.as_float());
  RequireDefined(value);
  if (!value.IsInteger()) Fail("'-' does not go with this value", "a number", TypeName(value));
  return CalculateIntegers(Operator::kSubtract, 0, value.as_int());
}

}  // namespace thermocline::jinja
