// The methods of Python's list and dict that templates use.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"

namespace thermocline::jinja {
namespace {

List& MutableList(const Value& self) {
  if (self.as_list().is_tuple) Fail("a tuple cannot be changed");
  return self.as_list();
}

Value AppendMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  runtime.Append(MutableList(self), Bind(arguments, "append", {"item"}, 1)[0]);
  return Value::None();
}

Value ExtendMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  List& list = MutableList(self);
  for (const Value& item : Iterate(runtime, Bind(arguments, "extend", {"items"}, 1)[0])) {
    runtime.Append(list, item);
  }
  return Value::None();
}

Value InsertMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "insert", {"index", "item"}, 2);
  List& list = MutableList(self);
  const auto size = static_cast<int64_t>(list.items.size());
  int64_t at = RequireInteger(bound[0], "where an item is inserted");
  at = std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
  runtime.budget().Spend(list.items.size() / 8);
  runtime.budget().Take(sizeof(Value));
  list.items.insert(list.items.begin() + at, bound[1]);
  return Value::None();
}

Value PopListMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value index = Bind(arguments, "pop", {"index"})[0];
  List& list = MutableList(self);
  const auto size = static_cast<int64_t>(list.items.size());
  int64_t at = index.Is(Kind::kUndefined) ? -1 : RequireInteger(index, "which item is popped");
  if (at < 0) at += size;
  if (at < 0 || at >= size) Fail("an item is popped that the list does not have");
  runtime.budget().Spend(list.items.size() / 8);
  Value item = list.items[static_cast<size_t>(at)];
  list.items.erase(list.items.begin() + at);
  return item;
}

Value ListIndexMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value wanted = Bind(arguments, "index", {"item"}, 1)[0];
  const std::vector<Value>& items = self.as_list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (Equals(runtime, items[i], wanted)) return Value::Int(static_cast<int64_t>(i));
  }
  Fail("a list does not hold the item whose index is asked");
}

Value ListCountMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value wanted = Bind(arguments, "count", {"item"}, 1)[0];
  const std::vector<Value>& items = self.as_list().items;
  return Value::Int(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return Equals(runtime, item, wanted);
  }));
}

Value ItemsMethod(Runtime& runtime, const Value& self, const Arguments&) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : self.as_dict().entries()) {
    pairs.push_back(runtime.NewTuple({key, value}));
  }
  return runtime.NewList(std::move(pairs));
}

Value KeysMethod(Runtime& runtime, const Value& self, const Arguments&) {
  return runtime.NewList(Iterate(runtime, self));
}

Value ValuesMethod(Runtime& runtime, const Value& self, const Arguments&) {
  std::vector<Value> values;
  for (const auto& [key, value] : self.as_dict().entries()) values.push_back(value);
  return runtime.NewList(std::move(values));
}

Value GetMethod(Runtime&, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "get", {"key", "default"}, 1);
  const bool has_default = arguments.positional.size() + arguments.named.size() > 1;
  const Value* found = bound[0].Is(Kind::kUndefined) ? nullptr : self.as_dict().Find(bound[0]);
  if (found != nullptr) return *found;
  return has_default ? bound[1] : Value::None();
}

Value UpdateMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() > 1) Fail("too many arguments for update");
  for (const Value& source : arguments.positional) {
    if (!source.Is(Kind::kDict)) Fail("update takes a dict", {}, TypeName(source));
    const std::vector<Dict::Entry> entries = source.as_dict().entries();
    for (const auto& [key, value] : entries) self.as_dict().Set(runtime.budget(), key, value);
  }
  for (const auto& [name, value] : arguments.named) {
    self.as_dict().Set(runtime.budget(), runtime.Text(name), value);
  }
  return Value::None();
}

Value PopDictMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "pop", {"key", "default"}, 1);
  const Value* found = self.as_dict().Find(bound[0]);
  if (found == nullptr) {
    if (arguments.positional.size() < 2) Fail("a key is popped that the dict does not have");
    return bound[1];
  }
  runtime.budget().Spend(self.as_dict().size());
  Value value = *found;
  self.as_dict().Erase(bound[0]);
  return value;
}

Value SetDefaultMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "setdefault", {"key", "default"}, 1);
  const Value* found = self.as_dict().Find(bound[0]);
  if (found != nullptr) return *found;
  Value value = arguments.positional.size() > 1 ? bound[1] : Value::None();
  self.as_dict().Set(runtime.budget(), bound[0], value);
  return value;
}

Value CopyMethod(Runtime& runtime, const Value& self, const Arguments&) {
  if (self.Is(Kind::kList)) return runtime.NewList(self.as_list().items);
  Value copy = runtime.NewDict();
  for (const auto& [key, value] : self.as_dict().entries()) {
    copy.as_dict().Set(runtime.budget(), key, value);
  }
  return copy;
}

constexpr FunctionRow kListMethods[] = {
    {"append", AppendMethod}, {"extend", ExtendMethod},   {"insert", InsertMethod},
    {"pop", PopListMethod},   {"index", ListIndexMethod}, {"count", ListCountMethod},
    {"copy", CopyMethod},
};

constexpr FunctionRow kDictMethods[] = {
    {"items", ItemsMethod},           {"keys", KeysMethod},
    {"values", ValuesMethod},         {"get", GetMethod},
    {"update", UpdateMethod},         {"pop", PopDictMethod},
    {"setdefault", SetDefaultMethod}, {"copy", CopyMethod},
};

}  // namespace

Function FindListMethod(const std::string& name) { return FindRow(kListMethods, name); }
Function FindDictMethod(const std::string& name) { return FindRow(kDictMethods, name); }

}  // namespace thermocline::jinja
