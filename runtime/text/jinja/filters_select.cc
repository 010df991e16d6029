// Filters that apply a test or another filter to each item.
#include <fmt/format.h>

#include "runtime/text/jinja/item_key.h"
#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"

namespace thermocline::jinja {
namespace {

// Returns the arguments behind the first `n_taken` positional ones.
Arguments ArgumentsBehind(const Arguments& arguments, size_t n_taken) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(n_taken),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

// With kByAttribute the first argument names the attribute that is tested. The next is the test's
// name; without one the item counts as true or false.
template <bool kWanted, bool kByAttribute>
Value SelectFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr size_t kTestAt = kByAttribute ? 1 : 0;
  // jinja2 looks at no items of what is false, so that none gives an empty list.
  if (!IsTrue(input)) return runtime.NewList();
  const std::vector<Value>& positional = arguments.positional;
  if (positional.size() < kTestAt) Fail("selectattr needs the name of an attribute");
  const ItemKey key(kByAttribute ? positional[0] : Value());
  const bool has_test = positional.size() > kTestAt;
  const std::string test = has_test ? RequireString(positional[kTestAt], "the name of a test") : "";
  const Arguments rest = has_test ? ArgumentsBehind(arguments, kTestAt + 1) : Arguments{};
  std::vector<Value> chosen;
  for (const Value& item : Iterate(runtime, input)) {
    const Value tested = key.Of(runtime, item);
    const bool holds = has_test ? ApplyTest(runtime, test, tested, rest) : IsTrue(tested);
    if (holds == kWanted) chosen.push_back(item);
  }
  return runtime.NewList(std::move(chosen));
}

// map(attribute="name", default=...).
Value MapAttribute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "map", {"attribute", "default"});
  const ItemKey key(bound[0]);
  std::vector<Value> mapped;
  for (const Value& item : Iterate(runtime, input)) {
    const Value found = key.Of(runtime, item);
    mapped.push_back(found.Is(Kind::kUndefined) ? bound[1] : found);
  }
  return runtime.NewList(std::move(mapped));
}

Value MapFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!IsTrue(input)) return runtime.NewList();
  if (arguments.positional.empty()) return MapAttribute(runtime, input, arguments);
  const std::string& filter = RequireString(arguments.positional[0], "the name of a filter");
  const Arguments rest = ArgumentsBehind(arguments, 1);
  std::vector<Value> mapped;
  for (const Value& item : Iterate(runtime, input)) {
    mapped.push_back(ApplyFilter(runtime, filter, item, rest));
  }
  return runtime.NewList(std::move(mapped));
}

constexpr FunctionRow kSelectFilters[] = {
    {"select", SelectFilter<true, false>},
    {"reject", SelectFilter<false, false>},
    {"selectattr", SelectFilter<true, true>},
    {"rejectattr", SelectFilter<false, true>},
    {"map", MapFilter},
};

}  // namespace

Function FindSelectFilter(const std::string& name) { return FindRow(kSelectFilters, name); }

}  // namespace thermocline::jinja
