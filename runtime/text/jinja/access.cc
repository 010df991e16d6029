// What lies within a value: items, attributes, slices.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

// A method of a string, a list or a dict, with the value it belongs to.
class BoundMethod : public Object {
 public:
  BoundMethod(Value self, Function function) : self_(std::move(self)), function_(function) {}
  bool callable() const override { return true; }
  Value Call(Runtime& runtime, const Arguments& arguments) override {
    return function_(runtime, self_, arguments);
  }

 private:
  Value self_;
  Function function_;
};

Function FindMethod(const Value& value, const std::string& name) {
  switch (value.kind()) {
    case Kind::kString:
      return FindStringMethod(name);
    case Kind::kList:
      return FindListMethod(name);
    case Kind::kDict:
      return FindDictMethod(name);
    default:
      return nullptr;
  }
}

Value NoAttribute(const Value& value, const std::string& name) {
  return Value::Undefined(
      fmt::format("'{}', an attribute of a {},", Printable(name), TypeName(value)));
}

// Returns the index within `size` items that a Python index means, or -1.
int64_t ResolveIndex(int64_t index, int64_t size) {
  const int64_t resolved = index < 0 ? index + size : index;
  return resolved >= 0 && resolved < size ? resolved : -1;
}

// The indices that a slice takes, in order.
struct SliceRange {
  int64_t start;
  int64_t step;
  int64_t count;
};

int64_t SliceBound(const Value& bound, int64_t size, bool forward, int64_t otherwise) {
  if (bound.Is(Kind::kNone)) return otherwise;
  RequireDefined(bound);
  if (!bound.IsInteger()) Fail("a slice's bounds are integers", {}, TypeName(bound));
  const int64_t index = bound.as_int() < 0 ? bound.as_int() + size : bound.as_int();
  return forward ? std::clamp<int64_t>(index, 0, size) : std::clamp<int64_t>(index, -1, size - 1);
}

SliceRange ResolveSlice(const Value& start, const Value& stop, const Value& step, int64_t size) {
  RequireDefined(step);
  if (!step.Is(Kind::kNone) && !step.IsInteger()) {
    Fail("a slice's step is an integer", {}, TypeName(step));
  }
  // A step beyond the size takes one item, whatever it is.
  const int64_t stride =
      step.Is(Kind::kNone) ? 1 : std::clamp<int64_t>(step.as_int(), -size - 1, size + 1);
  if (stride == 0) Fail("a slice's step is 0");
  const bool forward = stride > 0;
  const int64_t begin = SliceBound(start, size, forward, forward ? 0 : size - 1);
  const int64_t end = SliceBound(stop, size, forward, forward ? size : -1);
  const int64_t distance = forward ? end - begin : begin - end;
  const int64_t pace = forward ? stride : -stride;
  return {begin, stride, distance <= 0 ? 0 : (distance + pace - 1) / pace};
}

Value SliceString(Runtime& runtime, const std::string& text, const Value& start, const Value& stop,
                  const Value& step) {
  runtime.budget().SpendCharacters(text.size());
  const std::vector<size_t> offsets = CharacterOffsets(text);
  const SliceRange range =
      ResolveSlice(start, stop, step, static_cast<int64_t>(offsets.size()) - 1);
  std::string part;
  for (int64_t i = 0; i < range.count; ++i) {
    const auto at = static_cast<size_t>(range.start + i * range.step);
    part.append(text, offsets[at], offsets[at + 1] - offsets[at]);
  }
  return runtime.Text(std::move(part));
}

Value StringItem(Runtime& runtime, const std::string& text, int64_t index) {
  runtime.budget().SpendCharacters(text.size());
  const std::vector<size_t> offsets = CharacterOffsets(text);
  const int64_t at = ResolveIndex(index, static_cast<int64_t>(offsets.size()) - 1);
  if (at < 0) return Value::Undefined("a character beyond the string's end");
  const auto position = static_cast<size_t>(at);
  return runtime.Text(text.substr(offsets[position], offsets[position + 1] - offsets[position]));
}

}  // namespace

std::vector<Value> Iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kList:
      runtime.budget().Spend(value.as_list().items.size() / 8);
      return value.as_list().items;
    case Kind::kDict:
      runtime.budget().Spend(value.as_dict().size() / 8);
      for (const auto& [key, item] : value.as_dict().entries()) items.push_back(key);
      return items;
    case Kind::kString: {
      const std::string& text = value.as_string();
      const std::vector<size_t> offsets = CharacterOffsets(text);
      for (size_t i = 0; i + 1 < offsets.size(); ++i) {
        items.push_back(runtime.Text(text.substr(offsets[i], offsets[i + 1] - offsets[i])));
      }
      return items;
    }
    default:
      Fail("a value that has no items", "a list, a dict or a string", TypeName(value));
  }
}

int64_t Length(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      runtime.budget().SpendCharacters(value.as_string().size());
      return static_cast<int64_t>(CountCharacters(value.as_string()));
    case Kind::kList:
      return static_cast<int64_t>(value.as_list().items.size());
    case Kind::kDict:
      return static_cast<int64_t>(value.as_dict().size());
    default:
      Fail("a value that has no length", "a list, a dict or a string", TypeName(value));
  }
}

Value GetAttribute(Runtime& runtime, const Value& value, const std::string& name) {
  RequireDefined(value);
  if (value.Is(Kind::kObject)) return value.as_object().Attribute(runtime, name);
  if (const Function method = FindMethod(value, name)) {
    return Value::Of(runtime.Make<BoundMethod>(value, method));
  }
  if (value.Is(Kind::kList) && value.as_list().is_group) {
    if (name == "grouper") return value.as_list().items[0];
    if (name == "list") return value.as_list().items[1];
  }
  const Value* item =
      value.Is(Kind::kDict) ? value.as_dict().Find(std::string_view(name)) : nullptr;
  return item != nullptr ? *item : NoAttribute(value, name);
}

Value GetItem(Runtime& runtime, const Value& value, const Value& key) {
  RequireDefined(value);
  if (value.Is(Kind::kDict)) {
    const Value* item = value.as_dict().Find(key);
    if (item != nullptr) return *item;
  }
  if (key.IsInteger() && value.Is(Kind::kList)) {
    const std::vector<Value>& items = value.as_list().items;
    const int64_t at = ResolveIndex(key.as_int(), static_cast<int64_t>(items.size()));
    return at < 0 ? Value::Undefined("an item beyond the list's end")
                  : items[static_cast<size_t>(at)];
  }
  if (key.IsInteger() && value.Is(Kind::kString)) {
    return StringItem(runtime, value.as_string(), key.as_int());
  }
  if (key.Is(Kind::kString)) return GetAttribute(runtime, value, key.as_string());
  return Value::Undefined(fmt::format("an item of a {}", TypeName(value)));
}

Value Slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
            const Value& step) {
  RequireDefined(value);
  if (value.Is(Kind::kString)) return SliceString(runtime, value.as_string(), start, stop, step);
  if (!value.Is(Kind::kList))
    Fail("a value that has no slices", "a list or a string", TypeName(value));
  const std::vector<Value>& items = value.as_list().items;
  const SliceRange range = ResolveSlice(start, stop, step, static_cast<int64_t>(items.size()));
  std::vector<Value> part;
  for (int64_t i = 0; i < range.count; ++i) {
    part.push_back(items[static_cast<size_t>(range.start + i * range.step)]);
  }
  Value slice = runtime.NewList(std::move(part));
  slice.as_list().is_tuple = value.as_list().is_tuple;
  return slice;
}

Value CallValue(Runtime& runtime, const Value& callee, const Arguments& arguments) {
  RequireDefined(callee);
  if (!callee.Is(Kind::kObject)) Fail("a value that cannot be called", {}, TypeName(callee));
  return callee.as_object().Call(runtime, arguments);
}

}  // namespace thermocline::jinja
