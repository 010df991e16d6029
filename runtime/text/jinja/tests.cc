// What stands behind `is`.
#include <fmt/format.h>

#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

template <Kind kKind>
Value IsOfKind(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.Is(kKind));
}

Value IsDefined(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(!input.Is(Kind::kUndefined));
}

Value IsNumberTest(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.IsNumber());
}

template <bool kWanted>
Value IsBoolean(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.Is(Kind::kBool) && input.as_bool() == kWanted);
}

// Lists, dicts and strings; as in jinja2 also an undefined value, which is an empty one.
Value IsIterable(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.Is(Kind::kString) || input.Is(Kind::kList) || input.Is(Kind::kDict) ||
                     input.Is(Kind::kUndefined));
}

Value IsCallable(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.Is(Kind::kObject) && input.as_object().callable());
}

template <Operator kOperator>
Value ComparesAs(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value other = Bind(arguments, "the test", {"other"}, 1)[0];
  return Value::Bool(Compare(runtime, kOperator, input, other));
}

Value IsSameAs(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value other = Bind(arguments, "the test 'sameas'", {"other"}, 1)[0];
  if (input.kind() != other.kind()) return Value::Bool(false);
  if (input.Is(Kind::kList)) return Value::Bool(&input.as_list() == &other.as_list());
  if (input.Is(Kind::kDict)) return Value::Bool(&input.as_dict() == &other.as_dict());
  return Value::Bool(Equals(runtime, input, other));
}

bool Divides(Runtime& runtime, const Value& input, int64_t divisor, int64_t rest) {
  const Value found = Calculate(runtime, Operator::kModulo, input, Value::Int(divisor));
  return Equals(runtime, found, Value::Int(rest));
}

Value IsOdd(Runtime& runtime, const Value& input, const Arguments&) {
  return Value::Bool(Divides(runtime, input, 2, 1));
}

Value IsEven(Runtime& runtime, const Value& input, const Arguments&) {
  return Value::Bool(Divides(runtime, input, 2, 0));
}

Value IsDivisible(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value divisor = Bind(arguments, "the test 'divisibleby'", {"num"}, 1)[0];
  return Value::Bool(Divides(runtime, input, RequireInteger(divisor, "the divisor"), 0));
}

// Whether there are letters, and `change` leaves them as they are.
bool HasCase(Runtime& runtime, const Value& input, std::string (*change)(std::string_view),
             std::string (*change_back)(std::string_view)) {
  const std::string& text = RequireString(input, "what is tested for its case");
  runtime.budget().SpendCharacters(2 * text.size());
  return change(text) == text && change_back(text) != text;
}

Value IsLower(Runtime& runtime, const Value& input, const Arguments&) {
  return Value::Bool(HasCase(runtime, input, Lower, Upper));
}

Value IsUpper(Runtime& runtime, const Value& input, const Arguments&) {
  return Value::Bool(HasCase(runtime, input, Upper, Lower));
}

Value NamesFilter(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.Is(Kind::kString) && FindFilter(input.as_string()) != nullptr);
}

Value NamesTest(Runtime&, const Value& input, const Arguments&) {
  return Value::Bool(input.Is(Kind::kString) && FindTest(input.as_string()) != nullptr);
}

constexpr FunctionRow kTests[] = {
    {"defined", IsDefined},
    {"undefined", IsOfKind<Kind::kUndefined>},
    {"none", IsOfKind<Kind::kNone>},
    {"string", IsOfKind<Kind::kString>},
    {"number", IsNumberTest},
    {"integer", IsOfKind<Kind::kInt>},
    {"float", IsOfKind<Kind::kFloat>},
    {"boolean", IsOfKind<Kind::kBool>},
    {"true", IsBoolean<true>},
    {"false", IsBoolean<false>},
    {"mapping", IsOfKind<Kind::kDict>},
    {"iterable", IsIterable},
    {"sequence", IsIterable},
    {"callable", IsCallable},
    {"in", ComparesAs<Operator::kIn>},
    {"eq", ComparesAs<Operator::kEqual>},
    {"equalto", ComparesAs<Operator::kEqual>},
    {"==", ComparesAs<Operator::kEqual>},
    {"ne", ComparesAs<Operator::kNotEqual>},
    {"!=", ComparesAs<Operator::kNotEqual>},
    {"lt", ComparesAs<Operator::kLess>},
    {"lessthan", ComparesAs<Operator::kLess>},
    {"<", ComparesAs<Operator::kLess>},
    {"le", ComparesAs<Operator::kLessEqual>},
    {"<=", ComparesAs<Operator::kLessEqual>},
    {"gt", ComparesAs<Operator::kGreater>},
    {"greaterthan", ComparesAs<Operator::kGreater>},
    {">", ComparesAs<Operator::kGreater>},
    {"ge", ComparesAs<Operator::kGreaterEqual>},
    {">=", ComparesAs<Operator::kGreaterEqual>},
    {"odd", IsOdd},
    {"even", IsEven},
    {"divisibleby", IsDivisible},
    {"lower", IsLower},
    {"upper", IsUpper},
    {"sameas", IsSameAs},
    {"filter", NamesFilter},
    {"test", NamesTest},
};

}  // namespace

Function FindTest(const std::string& name) { return FindRow(kTests, name); }

bool ApplyTest(Runtime& runtime, const std::string& name, const Value& input,
               const Arguments& arguments) {
  const Function test = FindTest(name);
  if (test == nullptr) Fail(fmt::format("there is no test '{}'", name));
  return test(runtime, input, arguments).as_bool();
}

}  // namespace thermocline::jinja
