#include "runtime/text/jinja/runtime.h"

#include <fmt/format.h>

#include <algorithm>

namespace thermocline::jinja {

Value Runtime::Text(std::string text) {
  budget_.CheckSize(text.size());
  budget_.SpendBytes(text.size());
  budget_.Take(StringData::CountedBytes(text.size()));
  return Value::Of(std::make_shared<const StringData>(std::move(text), &budget_));
}

Value Runtime::NewList(std::vector<Value> items) {
  budget_.Spend(1 + items.size() / 8);
  budget_.Take(items.size() * sizeof(Value));
  auto* list = Make<List>();
  list->items = std::move(items);
  return Value::Of(list);
}

Value Runtime::NewTuple(std::vector<Value> items) {
  Value tuple = NewList(std::move(items));
  tuple.as_list().is_tuple = true;
  return tuple;
}

Value Runtime::NewDict() { return Value::Of(Make<Dict>()); }

void Runtime::Append(List& list, Value item) {
  budget_.Spend(1);
  budget_.Take(sizeof(Value));
  list.items.push_back(std::move(item));
}

void OutputBuffer::Append(std::string_view text) {
  if (text.size() > budget_.limits().max_output_bytes - text_.size()) {
    Fail(fmt::format("the template writes more than {} bytes", budget_.limits().max_output_bytes));
  }
  budget_.SpendBytes(text.size());
  budget_.Take(text.size());
  counted_bytes_ += text.size();
  text_ += text;
}

std::vector<Value> Bind(const Arguments& arguments, const std::string& what,
                        const std::vector<const char*>& names, size_t n_required) {
  if (arguments.positional.size() > names.size()) {
    Fail(fmt::format("too many arguments for {}", what), fmt::format("at most {}", names.size()),
         fmt::format("{}", arguments.positional.size()));
  }
  std::vector<Value> bound = arguments.positional;
  std::vector<bool> given(names.size(), false);
  std::fill_n(given.begin(), bound.size(), true);
  bound.resize(names.size());
  for (const auto& [name, value] : arguments.named) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) Fail(fmt::format("{} has no argument '{}'", what, name));
    const auto index = static_cast<size_t>(at - names.begin());
    if (given[index]) Fail(fmt::format("{} is given its argument '{}' twice", what, name));
    bound[index] = value;
    given[index] = true;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (!given[i]) Fail(fmt::format("{} needs its argument '{}'", what, names[i]));
  }
  return bound;
}

}  // namespace thermocline::jinja
