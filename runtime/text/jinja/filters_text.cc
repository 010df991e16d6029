// Filters whose result is text, and those that give any value a form.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/library.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/split_text.h"
#include "runtime/text/jinja/text_of_value.h"
#include "runtime/text/jinja/unicode.h"
#include "runtime/text/utf8.h"

namespace thermocline::jinja {
namespace {

Value ToText(Runtime& runtime, const Value& input, const Arguments&) {
  return input.Is(Kind::kString) ? input : runtime.Text(TextOf(runtime, input));
}

template <std::string (*kChange)(std::string_view)>
Value ChangeFilter(Runtime& runtime, const Value& input, const Arguments&) {
  const std::string text = TextOf(runtime, input);
  runtime.budget().SpendCharacters(text.size());
  return runtime.Text(kChange(text));
}

// jinja2's `title` begins words behind blanks, hyphens and opening brackets only.
std::string TitleFilter(std::string_view text) {
  std::string out;
  bool word_begins = true;
  while (!text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    const std::string_view character = text.substr(0, first.n_bytes);
    const bool separates = std::string_view("-({[<").find(text[0]) != std::string_view::npos ||
                           (first.status == Utf8Status::kValid && IsSpace(first.codepoint));
    out += word_begins ? Upper(character) : Lower(character);
    word_begins = separates;
    text.remove_prefix(first.n_bytes);
  }
  return out;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value TrimFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value characters = Bind(arguments, "trim", {"chars"})[0];
  const std::string text = TextOf(runtime, input);
  runtime.budget().SpendCharacters(text.size());
  const bool blanks = characters.Is(Kind::kUndefined) || characters.Is(Kind::kNone);
  const std::string_view trimmed =
      blanks ? Strip(text, Side::kBoth)
             : Strip(text, Side::kBoth, RequireString(characters, "the characters to trim"));
  return runtime.Text(std::string(trimmed));
}

Value ReplaceFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "replace", {"old", "new", "count"}, 2);
  const bool all = bound[2].Is(Kind::kUndefined) || bound[2].Is(Kind::kNone);
  const int64_t count = all ? -1 : RequireInteger(bound[2], "the number of replacements");
  return ReplaceText(runtime, TextOf(runtime, input), TextOf(runtime, bound[0]),
                     TextOf(runtime, bound[1]), count);
}

// Returns one level of indentation, given a number of blanks or the text itself; nullopt for none.
std::optional<std::string> IndentText(Runtime& runtime, const Value& value) {
  if (value.Is(Kind::kUndefined) || value.Is(Kind::kNone)) return std::nullopt;
  if (value.Is(Kind::kString)) return value.as_string();
  const int64_t width = std::max<int64_t>(RequireInteger(value, "an indentation"), 0);
  runtime.budget().CheckSize(static_cast<uint64_t>(width));
  return std::string(static_cast<size_t>(width), ' ');
}

Value JsonFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound =
      Bind(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii_only = IsTrue(bound[0]);
  style.indent = IndentText(runtime, bound[1]);
  style.sort_keys = IsTrue(bound[3]);
  if (style.indent.has_value()) style.item_separator = ",";
  if (bound[2].Is(Kind::kList)) {
    const std::vector<Value>& separators = bound[2].as_list().items;
    if (separators.size() != 2) Fail("JSON has two separators");
    style.item_separator = RequireString(separators[0], "a separator");
    style.key_separator = RequireString(separators[1], "a separator");
  }
  return runtime.Text(JsonOf(runtime, input, style));
}

Value IndentFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "indent", {"width", "first", "blank"});
  const std::string indentation = IndentText(runtime, bound[0]).value_or("    ");
  const bool indents_blank = IsTrue(bound[2]);
  // As in jinja2, lines keep no ends of their own but "\n".
  const Value lines = SplitLines(runtime, TextOf(runtime, input) + "\n", false);
  std::string out;
  bool first = true;
  for (const Value& value : lines.as_list().items) {
    const std::string& line = value.as_string();
    const bool is_first = std::exchange(first, false);
    if (!is_first) out += '\n';
    const bool indents = is_first ? IsTrue(bound[1]) : indents_blank || !line.empty();
    if (indents) out += indentation;
    out += line;
    runtime.budget().CheckSize(out.size());
  }
  return runtime.Text(std::move(out));
}

Value WordCountFilter(Runtime& runtime, const Value& input, const Arguments&) {
  const std::string text = TextOf(runtime, input);
  runtime.budget().SpendCharacters(text.size());
  std::string_view rest = text;
  int64_t count = 0;
  bool in_word = false;
  while (!rest.empty()) {
    const Utf8Char first = FirstUtf8Char(rest);
    const uint32_t c = first.status == Utf8Status::kValid ? first.codepoint : 0;
    const bool is_word = c == '_' || IsDigit(c) || IsAlpha(c);
    count += is_word && !in_word ? 1 : 0;
    in_word = is_word;
    rest.remove_prefix(first.n_bytes);
  }
  return Value::Int(count);
}

Value FormatFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (arguments.named.empty()) {
    return FormatPercent(runtime, TextOf(runtime, input), runtime.NewTuple(arguments.positional));
  }
  Value values = runtime.NewDict();
  for (const auto& [name, value] : arguments.named) {
    values.as_dict().Set(runtime.budget(), runtime.Text(name), value);
  }
  return FormatPercent(runtime, TextOf(runtime, input), values);
}

Value DefaultFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::vector<Value> bound = Bind(arguments, "default", {"default_value", "boolean"});
  const bool replaces = input.Is(Kind::kUndefined) || (IsTrue(bound[1]) && !IsTrue(input));
  if (!replaces) return input;
  const bool is_given = arguments.positional.size() + arguments.named.size() > 0;
  return is_given ? bound[0] : runtime.Text("");
}

Value AttrFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value name = Bind(arguments, "attr", {"name"}, 1)[0];
  // jinja2's `attr` sees attributes only, not the items of a dict.
  if (input.Is(Kind::kDict) && FindDictMethod(RequireString(name, "a name")) == nullptr) {
    return Value::Undefined("an attribute of a dict");
  }
  return GetAttribute(runtime, input, RequireString(name, "the name of an attribute"));
}

constexpr FunctionRow kTextFilters[] = {
    {"string", ToText},
    {"safe", ToText},
    {"upper", ChangeFilter<Upper>},
    {"lower", ChangeFilter<Lower>},
    {"title", ChangeFilter<TitleFilter>},
    {"capitalize", ChangeFilter<Capitalize>},
    {"escape", ChangeFilter<EscapeHtml>},
    {"e", ChangeFilter<EscapeHtml>},
    {"forceescape", ChangeFilter<EscapeHtml>},
    {"trim", TrimFilter},
    {"replace", ReplaceFilter},
    {"tojson", JsonFilter},
    {"indent", IndentFilter},
    {"wordcount", WordCountFilter},
    {"format", FormatFilter},
    {"default", DefaultFilter},
    {"d", DefaultFilter},
    {"attr", AttrFilter},
};

}  // namespace

Function FindTextFilter(const std::string& name) { return FindRow(kTextFilters, name); }

Function FindFilter(const std::string& name) {
  for (const auto find : {FindTextFilter, FindListFilter, FindSelectFilter, FindNumberFilter}) {
    if (const Function filter = find(name)) return filter;
  }
  return nullptr;
}

Value ApplyFilter(Runtime& runtime, const std::string& name, const Value& input,
                  const Arguments& arguments) {
  const DepthGuard guard(runtime.budget());  // `map` may apply `map`
  const Function filter = FindFilter(name);
  if (filter == nullptr) Fail(fmt::format("there is no filter '{}'", name));
  return filter(runtime, input, arguments);
}

}  // namespace thermocline::jinja
