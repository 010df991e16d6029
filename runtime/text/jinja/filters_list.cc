// Filters of lists and dicts as a whole.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/item_key.h"
#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

Value ListFilter(Runtime& runtime, const Value& input, const Arguments&) {
  return runtime.NewList(Iterate(runtime, input));
}

Value JoinFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "join", {"d", "attribute"});
  const std::string separator = TextOf(runtime, bound[0]);
  const ItemKey key(bound[1]);
  std::string joined;
  bool first = true;
  for (const Value& item : Iterate(runtime, input)) {
    if (!std::exchange(first, false)) joined += separator;
    joined += TextOf(runtime, key.Of(runtime, item));
    runtime.budget().CheckSize(joined.size());
  }
  return runtime.Text(std::move(joined));
}

template <bool kFirst>
Value EndFilter(Runtime& runtime, const Value& input, const Arguments&) {
  const std::vector<Value> items = Iterate(runtime, input);
  if (items.empty()) return Value::Undefined("an item of an empty list");
  return kFirst ? items.front() : items.back();
}

Value ReverseFilter(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.Is(Kind::kString)) {
    return Slice(runtime, input, Value::None(), Value::None(), Value::Int(-1));
  }
  std::vector<Value> items = Iterate(runtime, input);
  std::reverse(items.begin(), items.end());
  return runtime.NewList(std::move(items));
}

Value ItemsFilter(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.Is(Kind::kUndefined)) return runtime.NewList();
  if (!input.Is(Kind::kDict)) Fail("items takes a dict", {}, TypeName(input));
  return FindDictMethod("items")(runtime, input, {});
}

using Keyed = std::pair<Value, Value>;  // what is compared, the item

// Sorts stably by the keys and returns the items.
Value SortKeyed(Runtime& runtime, std::vector<Keyed> keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& left, const Keyed& right) {
    return reverse ? IsLess(runtime, right.first, left.first)
                   : IsLess(runtime, left.first, right.first);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& entry : keyed) items.push_back(std::move(entry.second));
  return runtime.NewList(std::move(items));
}

Value SortFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound =
      Bind(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  // "a,b" sorts by a, then by b.
  std::vector<ItemKey> keys;
  if (bound[2].Is(Kind::kString)) {
    const std::string& names = bound[2].as_string();
    for (size_t begin = 0; begin <= names.size();) {
      const size_t end = std::min(names.find(',', begin), names.size());
      keys.emplace_back(runtime.Text(names.substr(begin, end - begin)));
      begin = end + 1;
    }
  } else {
    keys.emplace_back(bound[2]);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : Iterate(runtime, input)) {
    std::vector<Value> parts;
    for (const ItemKey& key : keys) parts.push_back(key.Of(runtime, item, IsTrue(bound[1])));
    keyed.emplace_back(parts.size() == 1 ? parts[0] : runtime.NewList(std::move(parts)), item);
  }
  return SortKeyed(runtime, std::move(keyed), IsTrue(bound[0]));
}

Value DictSortFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  if (!input.Is(Kind::kDict)) Fail("dictsort takes a dict", {}, TypeName(input));
  const std::string by = bound[1].Is(Kind::kUndefined) ? "key" : TextOf(runtime, bound[1]);
  if (by != "key" && by != "value") Fail("dictsort sorts", "by key or value", Printable(by));
  const ItemKey key(Value::Int(by == "key" ? 0 : 1));
  std::vector<Keyed> keyed;
  for (const Value& pair : FindDictMethod("items")(runtime, input, {}).as_list().items) {
    keyed.emplace_back(key.Of(runtime, pair, IsTrue(bound[0])), pair);
  }
  return SortKeyed(runtime, std::move(keyed), IsTrue(bound[2]));
}

Value UniqueFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "unique", {"case_sensitive", "attribute"});
  const ItemKey key(bound[1]);
  Dict* seen = runtime.Make<Dict>();
  std::vector<Value> items;
  for (const Value& item : Iterate(runtime, input)) {
    const Value wanted = key.Of(runtime, item, IsTrue(bound[0]));
    if (seen->Find(wanted) != nullptr) continue;
    seen->Set(runtime.budget(), wanted, Value::None());
    items.push_back(item);
  }
  return runtime.NewList(std::move(items));
}

template <bool kLeast>
Value ExtremeFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "min", {"case_sensitive", "attribute"});
  const ItemKey key(bound[1]);
  Value best = Value::Undefined("the extreme of an empty list");
  Value best_key;
  bool first = true;
  for (const Value& item : Iterate(runtime, input)) {
    const Value other = key.Of(runtime, item, IsTrue(bound[0]));
    const bool is_better =
        std::exchange(first, false) ||
        (kLeast ? IsLess(runtime, other, best_key) : IsLess(runtime, best_key, other));
    if (!is_better) continue;
    best = item;
    best_key = other;
  }
  return best;
}

Value SumFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "sum", {"attribute", "start"});
  const ItemKey key(bound[0].Is(Kind::kNone) ? Value() : bound[0]);
  Value sum = bound[1].Is(Kind::kUndefined) ? Value::Int(0) : bound[1];
  for (const Value& item : Iterate(runtime, input)) {
    sum = Calculate(runtime, Operator::kAdd, sum, key.Of(runtime, item));
  }
  return sum;
}

Value BatchFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t size = RequireInteger(bound[0], "the size of a batch");
  if (size <= 0) Fail("the size of a batch", "1 or more", fmt::format("{}", size));
  Value batches = runtime.NewList();
  Value batch = runtime.NewList();
  for (const Value& item : Iterate(runtime, input)) {
    if (Length(runtime, batch) == size) {
      runtime.Append(batches.as_list(), batch);
      batch = runtime.NewList();
    }
    runtime.Append(batch.as_list(), item);
  }
  if (Length(runtime, batch) == 0) return batches;
  const bool fills = !bound[1].Is(Kind::kUndefined) && !bound[1].Is(Kind::kNone);
  while (fills && Length(runtime, batch) < size) runtime.Append(batch.as_list(), bound[1]);
  runtime.Append(batches.as_list(), batch);
  return batches;
}

Value SliceFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "slice", {"slices", "fill_with"}, 1);
  const int64_t n_slices = RequireInteger(bound[0], "the number of slices");
  if (n_slices <= 0) Fail("the number of slices", "1 or more", fmt::format("{}", n_slices));
  const std::vector<Value> items = Iterate(runtime, input);
  const auto n_items = static_cast<int64_t>(items.size());
  const bool fills = !bound[1].Is(Kind::kUndefined) && !bound[1].Is(Kind::kNone);
  Value slices = runtime.NewList();
  size_t at = 0;
  for (int64_t i = 0; i < n_slices; ++i) {
    const bool is_longer = i < n_items % n_slices;
    Value slice = runtime.NewList();
    for (int64_t k = 0; k < n_items / n_slices + (is_longer ? 1 : 0); ++k) {
      runtime.Append(slice.as_list(), items[at++]);
    }
    if (fills && !is_longer) runtime.Append(slice.as_list(), bound[1]);
    runtime.Append(slices.as_list(), slice);
  }
  return slices;
}

Value GroupByFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound =
      Bind(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const ItemKey key(bound[0]);
  std::vector<Keyed> keyed;
  const auto key_of = [&](const Value& item, bool case_sensitive) {
    const Value found = key.Of(runtime, item, case_sensitive);
    return found.Is(Kind::kUndefined) ? bound[1] : found;
  };
  for (const Value& item : Iterate(runtime, input)) {
    keyed.emplace_back(key_of(item, IsTrue(bound[2])), item);
  }
  const Value sorted = SortKeyed(runtime, std::move(keyed), false);
  Value groups = runtime.NewList();
  Value last_key;
  for (const Value& item : sorted.as_list().items) {
    const Value item_key = key_of(item, IsTrue(bound[2]));
    if (Length(runtime, groups) == 0 || !Equals(runtime, last_key, item_key)) {
      Value group = runtime.NewTuple({key_of(item, true), runtime.NewList()});
      group.as_list().is_group = true;
      runtime.Append(groups.as_list(), group);
      last_key = item_key;
    }
    runtime.Append(groups.as_list().items.back().as_list().items[1].as_list(), item);
  }
  return groups;
}

constexpr FunctionRow kListFilters[] = {
    {"list", ListFilter},         {"join", JoinFilter},          {"first", EndFilter<true>},
    {"last", EndFilter<false>},   {"reverse", ReverseFilter},    {"items", ItemsFilter},
    {"sort", SortFilter},         {"dictsort", DictSortFilter},  {"unique", UniqueFilter},
    {"min", ExtremeFilter<true>}, {"max", ExtremeFilter<false>}, {"sum", SumFilter},
    {"batch", BatchFilter},       {"slice", SliceFilter},        {"groupby", GroupByFilter},
};

}  // namespace

ItemKey::ItemKey(const Value& attribute) {
  if (attribute.Is(Kind::kUndefined) || attribute.Is(Kind::kNone)) return;
  if (!attribute.Is(Kind::kString)) {
    path_.push_back(attribute);
    return;
  }
  const std::string& path = attribute.as_string();
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    const bool is_index = !part.empty() && part.size() < 10 &&
                          part.find_first_not_of("0123456789") == std::string::npos;
    path_.push_back(is_index ? Value::Int(std::stol(part)) : Value::Constant(part));
    begin = end + 1;
  }
}

Value ItemKey::Of(Runtime& runtime, const Value& item, bool case_sensitive) const {
  runtime.budget().Spend(1);
  Value key = item;
  for (const Value& part : path_) key = GetItem(runtime, key, part);
  if (case_sensitive || !key.Is(Kind::kString)) return key;
  return runtime.Text(Lower(key.as_string()));
}

Function FindListFilter(const std::string& name) { return FindRow(kListFilters, name); }

}  // namespace thermocline::jinja
