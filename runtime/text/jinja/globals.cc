// Functions that every template can call.
#include <fmt/format.h>

#include <array>
#include <ctime>

#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"

namespace thermocline::jinja {
namespace {

class GlobalFunction : public Object {
 public:
  explicit GlobalFunction(Function function) : function_(function) {}
  bool callable() const override { return true; }
  Value Call(Runtime& runtime, const Arguments& arguments) override {
    return function_(runtime, Value(), arguments);
  }

 private:
  Function function_;
};

Value Range(Runtime& runtime, const Value&, const Arguments& arguments) {
  const size_t n_given = arguments.positional.size();
  const std::vector<Value> bound = Bind(arguments, "range", {"start", "stop", "step"}, 1);
  const auto number = [&](size_t index) { return RequireInteger(bound[index], "a range's bound"); };
  const int64_t start = n_given == 1 ? 0 : number(0);
  const int64_t stop = number(n_given == 1 ? 0 : 1);
  const int64_t step = n_given < 3 ? 1 : number(2);
  if (step == 0) Fail("a range's step is 0");
  std::vector<Value> items;
  for (int64_t value = start; step > 0 ? value < stop : value > stop;) {
    if (static_cast<int64_t>(items.size()) >= runtime.budget().limits().max_range_items) {
      Fail(fmt::format("a range of more than {} items", runtime.budget().limits().max_range_items));
    }
    items.push_back(Value::Int(value));
    if (__builtin_add_overflow(value, step, &value)) break;
  }
  return runtime.NewList(std::move(items));
}

// Sets what dict() and namespace() are given: a dict or pairs, then named values.
void SetItems(Runtime& runtime, const char* what, const Arguments& arguments, Dict& dict) {
  if (arguments.positional.size() > 1) Fail(fmt::format("too many arguments for {}", what));
  for (const Value& source : arguments.positional) {
    if (source.Is(Kind::kDict)) {
      for (const auto& [key, item] : source.as_dict().entries()) {
        dict.Set(runtime.budget(), key, item);
      }
      continue;
    }
    for (const Value& pair : Iterate(runtime, source)) {
      const std::vector<Value> items = Iterate(runtime, pair);
      if (items.size() != 2) Fail(fmt::format("{} takes pairs of key and value", what));
      dict.Set(runtime.budget(), items[0], items[1]);
    }
  }
  for (const auto& [name, item] : arguments.named) {
    dict.Set(runtime.budget(), runtime.Text(name), item);
  }
}

Value MakeDict(Runtime& runtime, const Value&, const Arguments& arguments) {
  Value dict = runtime.NewDict();
  SetItems(runtime, "dict", arguments, dict.as_dict());
  return dict;
}

Value MakeNamespace(Runtime& runtime, const Value&, const Arguments& arguments) {
  auto* space = runtime.Make<Namespace>();
  SetItems(runtime, "namespace", arguments, space->attributes);
  return Value::Of(space);
}

Value RaiseException(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Value message = Bind(arguments, "raise_exception", {"message"}, 1)[0];
  Fail("the template refuses this conversation: " + TextOf(runtime, message));
}

Value StrftimeNow(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Value format = Bind(arguments, "strftime_now", {"format"}, 1)[0];
  const std::string& text = RequireString(format, "a date's format");
  if (text.empty()) return runtime.Text("");
  std::vector<char> buffer(size_t{1} << 14);
  const size_t n_bytes = std::strftime(buffer.data(), buffer.size(), text.c_str(), &runtime.now());
  if (n_bytes == 0) Fail("a date's format that makes no text, or too much", {}, Printable(text));
  return runtime.Text(std::string(buffer.data(), n_bytes));
}

// joiner(", "): "" when it is called first, then the separator.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string type_name() const override { return "joiner"; }
  bool callable() const override { return true; }
  Value Call(Runtime&, const Arguments&) override {
    return std::exchange(used_, true) ? separator_ : Value::Constant("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value MakeJoiner(Runtime& runtime, const Value&, const Arguments& arguments) {
  Value separator = Bind(arguments, "joiner", {"sep"})[0];
  if (separator.Is(Kind::kUndefined)) separator = Value::Constant(", ");
  return Value::Of(runtime.Make<Joiner>(separator));
}

// cycler("a", "b"): its next() gives its values in turn.
class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> values) : values_(std::move(values)) {}
  std::string type_name() const override { return "cycler"; }
  Value Attribute(Runtime& runtime, const std::string& name) override;
  Value Next() {
    const size_t at = std::exchange(position_, (position_ + 1) % values_.size());
    return values_[at];
  }
  void Reset() { position_ = 0; }

 private:
  std::vector<Value> values_;
  size_t position_ = 0;
};

class CyclerMethod : public Object {
 public:
  CyclerMethod(Cycler* cycler, bool is_next) : cycler_(cycler), is_next_(is_next) {}
  bool callable() const override { return true; }
  Value Call(Runtime&, const Arguments&) override {
    if (is_next_) return cycler_->Next();
    cycler_->Reset();
    return Value::None();
  }

 private:
  Cycler* cycler_;
  bool is_next_;
};

Value Cycler::Attribute(Runtime& runtime, const std::string& name) {
  if (name == "current") return values_[position_];
  if (name == "next" || name == "reset") {
    return Value::Of(runtime.Make<CyclerMethod>(this, name == "next"));
  }
  return Object::Attribute(runtime, name);
}

Value MakeCycler(Runtime& runtime, const Value&, const Arguments& arguments) {
  if (arguments.positional.empty()) Fail("a cycler needs values");
  return Value::Of(runtime.Make<Cycler>(arguments.positional));
}

constexpr FunctionRow kGlobals[] = {
    {"range", Range},
    {"dict", MakeDict},
    {"namespace", MakeNamespace},
    {"raise_exception", RaiseException},
    {"strftime_now", StrftimeNow},
    {"joiner", MakeJoiner},
    {"cycler", MakeCycler},
};

}  // namespace

std::vector<std::pair<std::string, Value>> GlobalFunctions(Runtime& runtime) {
  std::vector<std::pair<std::string, Value>> functions;
  for (const FunctionRow& row : kGlobals) {
    functions.emplace_back(row.name, Value::Of(runtime.Make<GlobalFunction>(row.function)));
  }
  return functions;
}

}  // namespace thermocline::jinja
