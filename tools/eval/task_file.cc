#include "tools/eval/task_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "runtime/core/error.h"
#include "runtime/safetensors/bounded_json.h"

namespace thermocline {
namespace {

using TaskJson = nlohmann::json;

constexpr JsonBounds kLineBounds = {.max_bytes = 1 << 20, .max_depth = 8, .max_values = 4096};
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

// Reads the fields of one line.
class TaskLine {
 public:
  TaskLine(TaskJson value, std::string where) : value_(std::move(value)), where_(std::move(where)) {
    if (!value_.is_object()) Fail("the line", "an object", JsonKind(value_));
  }

  bool Has(const char* name) const { return value_.contains(name); }

  std::string Text(const char* name) const {
    const TaskJson& field = Field(name);
    if (!field.is_string()) Fail(name, "a string", JsonKind(field));
    return field.get<std::string>();
  }

  std::vector<std::string> Texts(const char* name, const TaskJson* in = nullptr) const {
    const TaskJson& list = in == nullptr ? Field(name) : *in;
    const bool texts =
        list.is_array() && !list.empty() && list.size() <= kMaxEvalChoices &&
        std::ranges::all_of(list, [](const TaskJson& text) { return text.is_string(); });
    if (!texts)
      Fail(name, fmt::format("a list of 1 to {} strings", kMaxEvalChoices), JsonKind(list));
    return list.get<std::vector<std::string>>();
  }

  // An index below n, as a number or as a string of digits.
  size_t Index(const char* name, size_t n) const {
    const TaskJson& field = Field(name);
    std::optional<uint64_t> index;
    if (field.is_number_unsigned()) index = field.get<uint64_t>();
    if (field.is_string()) {
      const auto text = field.get<std::string>();
      const bool digits = !text.empty() && text.size() < 4 &&
                          std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
      if (digits) index = std::stoul(text);
    }
    if (!index || *index >= n) {
      Fail(name, fmt::format("the place of a choice, 0 to {}", n - 1), Printable(field.dump()));
    }
    return static_cast<size_t>(*index);
  }

  const TaskJson& Field(const char* name) const {
    const auto field = value_.find(name);
    if (field == value_.end()) Fail(name, "a field of that name", "none");
    return *field;
  }

  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found) const {
    throw Error(
        {.path = where_, .what = what, .expected = std::move(expected), .found = std::move(found)});
  }

 private:
  TaskJson value_;
  std::string where_;
};

EvalItem ParseArc(const TaskLine& line) {
  const TaskJson& choices = line.Field("choices");
  if (!choices.is_object() || !choices.contains("text") || !choices.contains("label")) {
    line.Fail("choices", "an object of text and label", JsonKind(choices));
  }
  const auto texts = line.Texts("choices.text", &choices["text"]);
  const auto labels = line.Texts("choices.label", &choices["label"]);
  const auto answer = std::ranges::find(labels, line.Text("answerKey"));
  if (labels.size() != texts.size() || answer == labels.end()) {
    line.Fail("answerKey", "the label of a choice", line.Text("answerKey"));
  }
  EvalItem item{fmt::format("Question: {}\nAnswer:", line.Text("question")), {}, 0};
  for (const std::string& text : texts) item.choices.push_back(" " + text);
  item.answer = static_cast<size_t>(answer - labels.begin());
  return item;
}

EvalItem ParsePiqa(const TaskLine& line) {
  return {fmt::format("Question: {}\nAnswer:", line.Text("goal")),
          {" " + line.Text("sol1"), " " + line.Text("sol2")},
          line.Index("label", 2)};
}

// Takes marks out of a text that was collected from pages.
std::string WithoutMarks(std::string text) {
  for (size_t at = text.find(" [title]"); at != std::string::npos; at = text.find(" [title]")) {
    text.replace(at, 8, ". ");
  }
  for (size_t open = text.find('['); open != std::string::npos; open = text.find('[', open)) {
    const size_t close = text.find(']', open);
    if (close == std::string::npos) break;
    text.erase(open, close + 1 - open);
  }
  for (size_t at = text.find("  "); at != std::string::npos; at = text.find("  "))
    text.erase(at, 1);
  const size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first);
}

EvalItem ParseHellaSwag(const TaskLine& line) {
  std::string context;
  if (line.Has("ctx_a") && line.Has("ctx_b")) {
    std::string second = line.Text("ctx_b");
    if (!second.empty() && second[0] >= 'a' && second[0] <= 'z') {
      second[0] = static_cast<char>(second[0] - 'a' + 'A');
    }
    context = line.Text("ctx_a") + " " + second;
  } else {
    context = line.Text("ctx");
  }
  if (line.Has("activity_label")) context = line.Text("activity_label") + ": " + context;
  context = WithoutMarks(context);
  while (!context.empty() && context.back() == ' ') context.pop_back();
  EvalItem item{std::move(context), {}, 0};
  for (const std::string& ending : line.Texts("endings")) {
    item.choices.push_back(" " + WithoutMarks(ending));
  }
  item.answer = line.Index("label", item.choices.size());
  return item;
}

EvalItem ParseLambada(const TaskLine& line) {
  const std::string text = line.Text("text");
  const size_t end = text.find_last_not_of(" \n");
  const size_t space = end == std::string::npos ? end : text.find_last_of(" \n", end);
  if (space == std::string::npos || space == 0) line.Fail("text", "two words or more", "fewer");
  return {text.substr(0, space), {text.substr(space, end + 1 - space)}, 0};
}

EvalItem ParseGeneral(const TaskLine& line) {
  EvalItem item{line.Text("context"), line.Texts("choices"), 0};
  item.answer = line.Index("answer", item.choices.size());
  return item;
}

}  // namespace

EvalItem ParseEvalItem(std::string_view text, const std::string& path, int64_t line_number) {
  const std::string where = fmt::format("{}, line {}", path, line_number);
  const TaskLine line(ParseBoundedJson(text, where, kLineBounds), where);
  EvalItem item;
  if (line.Has("question") && line.Has("choices")) {
    item = ParseArc(line);
  } else if (line.Has("goal")) {
    item = ParsePiqa(line);
  } else if (line.Has("endings")) {
    item = ParseHellaSwag(line);
  } else if (line.Has("context") && line.Has("choices")) {
    item = ParseGeneral(line);
  } else if (line.Has("text")) {
    item = ParseLambada(line);
  } else {
    line.Fail("the line",
              "a task in the form of ARC, PIQA, HellaSwag, LAMBADA, or with context, "
              "choices and answer",
              "other fields");
  }
  if (std::ranges::any_of(item.choices, &std::string::empty)) {
    line.Fail("a choice", "some text", "none");
  }
  return item;
}

std::vector<EvalItem> ReadEvalItems(const std::string& path, int64_t max_items) {
  const std::string text = ReadWholeFile(path, kMaxFileBytes);
  const int64_t most = max_items > 0 ? std::min(max_items, kMaxEvalItems) : kMaxEvalItems;
  std::vector<EvalItem> items;
  int64_t line_number = 0;
  for (size_t at = 0; at < text.size() && static_cast<int64_t>(items.size()) < most;) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \r\t") == std::string_view::npos) continue;
    items.push_back(ParseEvalItem(line, path, line_number));
  }
  if (items.empty()) throw Error({.path = path, .what = "the file has no tasks"});
  return items;
}

}  // namespace thermocline
