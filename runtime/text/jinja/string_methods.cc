// The methods of Python's str that templates use.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/format_text.h"
#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/split_text.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

template <Side kSide>
Value StripMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value characters = Bind(arguments, "strip", {"chars"})[0];
  const std::string& text = self.as_string();
  runtime.budget().SpendCharacters(text.size());
  const bool blanks = characters.Is(Kind::kUndefined) || characters.Is(Kind::kNone);
  const std::string_view stripped =
      blanks ? Strip(text, kSide)
             : Strip(text, kSide, RequireString(characters, "the characters to strip"));
  return runtime.Text(std::string(stripped));
}

template <std::string (*kChange)(std::string_view)>
Value ChangeMethod(Runtime& runtime, const Value& self, const Arguments&) {
  runtime.budget().SpendCharacters(self.as_string().size());
  return runtime.Text(kChange(self.as_string()));
}

template <bool kFromRight>
Value SplitMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "split", {"sep", "maxsplit"});
  const int64_t max_splits =
      bound[1].Is(Kind::kUndefined) ? -1 : RequireInteger(bound[1], "the number of splits");
  const bool blanks = bound[0].Is(Kind::kUndefined) || bound[0].Is(Kind::kNone);
  if (blanks) return SplitAtSpace(runtime, self.as_string(), max_splits, kFromRight);
  const std::string& separator = RequireString(bound[0], "what a string is split at");
  if (separator.empty()) Fail("a string is split at an empty one");
  return SplitAt(runtime, self.as_string(), separator, max_splits, kFromRight);
}

Value SplitLinesMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value keep_ends = Bind(arguments, "splitlines", {"keepends"})[0];
  return SplitLines(runtime, self.as_string(), IsTrue(keep_ends));
}

template <bool kAtStart>
Value StartsOrEndsWith(Runtime&, const Value& self, const Arguments& arguments) {
  const Value affix = Bind(arguments, kAtStart ? "startswith" : "endswith", {"affix"}, 1)[0];
  const std::string_view text = self.as_string();
  const auto fits = [&](const Value& part) {
    const std::string& wanted = RequireString(part, "the start or end of a string");
    return kAtStart ? text.starts_with(wanted) : text.ends_with(wanted);
  };
  if (!affix.Is(Kind::kList)) return Value::Bool(fits(affix));
  const std::vector<Value>& parts = affix.as_list().items;
  return Value::Bool(std::any_of(parts.begin(), parts.end(), fits));
}

Value ReplaceMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "replace", {"old", "new", "count"}, 2);
  const int64_t count =
      bound[2].Is(Kind::kUndefined) ? -1 : RequireInteger(bound[2], "the number of replacements");
  return ReplaceText(runtime, self.as_string(), RequireString(bound[0], "what is replaced"),
                     RequireString(bound[1], "what replaces it"), count);
}

// Returns the position in characters, or -1.
int64_t FindCharacters(Runtime& runtime, const Value& self, const Arguments& arguments,
                       bool from_right) {
  const std::vector<Value> bound = Bind(arguments, "find", {"sub", "start", "end"}, 1);
  const std::string& part = RequireString(bound[0], "what is looked for");
  runtime.budget().SpendCharacters(self.as_string().size());
  const auto or_none = [](const Value& value) {
    return value.Is(Kind::kUndefined) ? Value::None() : value;
  };
  const Value within = Slice(runtime, self, or_none(bound[1]), or_none(bound[2]), Value::None());
  const std::string& text = within.as_string();
  const size_t found = from_right ? FindLastText(text, part) : FindText(text, part);
  if (found == std::string::npos) return -1;
  int64_t skipped = bound[1].IsInteger() ? bound[1].as_int() : 0;
  if (skipped < 0) skipped = std::max<int64_t>(skipped + Length(runtime, self), 0);
  return skipped + static_cast<int64_t>(CountCharacters(std::string_view(text).substr(0, found)));
}

template <bool kFromRight>
Value FindMethodOf(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return Value::Int(FindCharacters(runtime, self, arguments, kFromRight));
}

template <bool kFromRight>
Value IndexMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const int64_t found = FindCharacters(runtime, self, arguments, kFromRight);
  if (found < 0) Fail("a string does not hold what its index is asked of");
  return Value::Int(found);
}

Value CountMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value value = Bind(arguments, "count", {"sub"}, 1)[0];
  const std::string& part = RequireString(value, "what is counted");
  const std::string& text = self.as_string();
  runtime.budget().SpendBytes(text.size());
  if (part.empty()) return Value::Int(Length(runtime, self) + 1);
  int64_t count = 0;
  for (size_t at = FindText(text, part); at != std::string::npos;
       at = FindText(text, part, at + part.size())) {
    ++count;
  }
  return Value::Int(count);
}

Value JoinMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value items = Bind(arguments, "join", {"iterable"}, 1)[0];
  std::string joined;
  bool first = true;
  for (const Value& item : Iterate(runtime, items)) {
    if (!std::exchange(first, false)) joined += self.as_string();
    joined += RequireString(item, "an item that is joined");
    runtime.budget().CheckSize(joined.size());
  }
  return runtime.Text(std::move(joined));
}

Value FormatMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return FormatBraces(runtime, self.as_string(), arguments);
}

template <bool (*kHolds)(uint32_t)>
Value AllMethod(Runtime& runtime, const Value& self, const Arguments&) {
  runtime.budget().SpendCharacters(self.as_string().size());
  return Value::Bool(AllCharacters(self.as_string(), kHolds));
}

bool IsAlphanumeric(uint32_t codepoint) { return IsAlpha(codepoint) || IsDigit(codepoint); }

template <std::string (*kChange)(std::string_view), std::string (*kChangeBack)(std::string_view)>
Value HasCaseMethod(Runtime& runtime, const Value& self, const Arguments&) {
  runtime.budget().SpendCharacters(2 * self.as_string().size());
  const std::string& text = self.as_string();
  return Value::Bool(kChange(text) == text && kChangeBack(text) != text);
}

template <bool kPrefix>
Value RemoveAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value value = Bind(arguments, "removeprefix", {"affix"}, 1)[0];
  const std::string& affix = RequireString(value, "what is removed");
  std::string_view text = self.as_string();
  if (kPrefix && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!kPrefix && text.ends_with(affix)) text.remove_suffix(affix.size());
  return runtime.Text(std::string(text));
}

// partition(sep): what is before, the separator, what is behind.
template <bool kFromRight>
Value PartitionMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value value = Bind(arguments, "partition", {"sep"}, 1)[0];
  const std::string& separator = RequireString(value, "what a string is split at");
  if (separator.empty()) Fail("a string is split at an empty one");
  const std::string& text = self.as_string();
  const size_t at = kFromRight ? FindLastText(text, separator) : FindText(text, separator);
  const Value empty = runtime.Text("");
  if (at == std::string::npos) {
    return runtime.NewTuple(kFromRight ? std::vector<Value>{empty, empty, self}
                                       : std::vector<Value>{self, empty, empty});
  }
  return runtime.NewTuple(
      {runtime.Text(text.substr(0, at)), value, runtime.Text(text.substr(at + separator.size()))});
}

template <bool kZeros>
Value JustifyMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "justify", {"width", "fillchar"}, 1);
  FieldStyle style;
  style.width = RequireInteger(bound[0], "a width");
  style.zeros = kZeros;
  if (kZeros) style.fill = "0";
  if (bound[1].Is(Kind::kString)) style.fill = bound[1].as_string();
  return runtime.Text(FillField(runtime, self.as_string(), style, kZeros));
}

constexpr FunctionRow kStringMethods[] = {
    {"strip", StripMethod<Side::kBoth>},
    {"lstrip", StripMethod<Side::kLeft>},
    {"rstrip", StripMethod<Side::kRight>},
    {"split", SplitMethod<false>},
    {"rsplit", SplitMethod<true>},
    {"splitlines", SplitLinesMethod},
    {"startswith", StartsOrEndsWith<true>},
    {"endswith", StartsOrEndsWith<false>},
    {"replace", ReplaceMethod},
    {"upper", ChangeMethod<Upper>},
    {"lower", ChangeMethod<Lower>},
    {"title", ChangeMethod<TitleWords>},
    {"capitalize", ChangeMethod<Capitalize>},
    {"find", FindMethodOf<false>},
    {"rfind", FindMethodOf<true>},
    {"index", IndexMethod<false>},
    {"rindex", IndexMethod<true>},
    {"count", CountMethod},
    {"join", JoinMethod},
    {"format", FormatMethod},
    {"isdigit", AllMethod<IsDigit>},
    {"isnumeric", AllMethod<IsDigit>},
    {"isalpha", AllMethod<IsAlpha>},
    {"isalnum", AllMethod<IsAlphanumeric>},
    {"isspace", AllMethod<IsSpace>},
    {"isupper", HasCaseMethod<Upper, Lower>},
    {"islower", HasCaseMethod<Lower, Upper>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"partition", PartitionMethod<false>},
    {"rpartition", PartitionMethod<true>},
    {"ljust", JustifyMethod<false>},
    {"zfill", JustifyMethod<true>},
};

}  // namespace

Function FindStringMethod(const std::string& name) { return FindRow(kStringMethods, name); }

int64_t RequireInteger(const Value& value, const std::string& what) {
  RequireDefined(value);
  if (!value.IsInteger()) Fail(what, "an integer", TypeName(value));
  return value.as_int();
}

const std::string& RequireString(const Value& value, const std::string& what) {
  RequireDefined(value);
  if (!value.Is(Kind::kString)) Fail(what, "a string", TypeName(value));
  return value.as_string();
}

}  // namespace thermocline::jinja
