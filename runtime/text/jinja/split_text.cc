#include "runtime/text/jinja/split_text.h"

#include <algorithm>

#include "runtime/text/jinja/unicode.h"
#include "runtime/text/utf8.h"

namespace thermocline::jinja {
namespace {

std::string Reversed(std::string_view text) { return {text.rbegin(), text.rend()}; }

// Returns the length of the first character if it is whitespace, otherwise 0.
size_t SpaceBytes(std::string_view text) {
  if (text.empty()) return 0;
  const Utf8Char first = FirstUtf8Char(text);
  return first.status == Utf8Status::kValid && IsSpace(first.codepoint) ? first.n_bytes : 0;
}

// Returns the length of the line's end at the start of the text, or 0.
size_t LineEndBytes(std::string_view text) {
  if (text.starts_with("\r\n")) return 2;
  const Utf8Char first = FirstUtf8Char(text);
  const uint32_t c = first.status == Utf8Status::kValid ? first.codepoint : 0;
  const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                    c == 0x2028 || c == 0x2029;
  return ends ? first.n_bytes : 0;
}

}  // namespace

size_t FindLastText(std::string_view text, std::string_view part) {
  const size_t found = FindText(Reversed(text), Reversed(part));
  return found == std::string_view::npos ? found : text.size() - found - part.size();
}

Value SplitAt(Runtime& runtime, std::string_view text, std::string_view separator,
              int64_t max_splits, bool from_right) {
  runtime.budget().SpendBytes(text.size());
  // From the right is from the left in a mirror.
  const std::string mirrored = from_right ? Reversed(text) : "";
  const std::string mirrored_separator = from_right ? Reversed(separator) : "";
  const std::string_view source = from_right ? std::string_view(mirrored) : text;
  const std::string_view cut = from_right ? std::string_view(mirrored_separator) : separator;
  std::vector<Value> parts;
  size_t begin = 0;
  while (true) {
    const bool may_split = max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits;
    const size_t found = may_split ? FindText(source, cut, begin) : std::string_view::npos;
    const std::string_view part =
        source.substr(begin, found == std::string_view::npos ? found : found - begin);
    parts.push_back(runtime.Text(from_right ? Reversed(part) : std::string(part)));
    if (found == std::string_view::npos) break;
    begin = found + cut.size();
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return runtime.NewList(std::move(parts));
}

Value SplitAtSpace(Runtime& runtime, std::string_view text, int64_t max_splits, bool from_right) {
  runtime.budget().SpendCharacters(text.size());
  // The words, as begin and end.
  std::vector<std::pair<size_t, size_t>> words;
  size_t at = 0;
  while (at < text.size()) {
    const size_t space = SpaceBytes(text.substr(at));
    if (space > 0) {
      at += space;
      continue;
    }
    const size_t begin = at;
    while (at < text.size() && SpaceBytes(text.substr(at)) == 0) ++at;
    words.emplace_back(begin, at);
    runtime.budget().Spend(1);
  }
  std::vector<Value> parts;
  const size_t n_alone =
      max_splits < 0 ? words.size() : std::min(words.size(), static_cast<size_t>(max_splits));
  const auto add = [&](size_t begin, size_t end) {
    parts.push_back(runtime.Text(std::string(text.substr(begin, end - begin))));
  };
  if (from_right) {
    const size_t n_together = words.size() - n_alone;
    // What is left keeps the blanks it begins with away, as Python does.
    if (n_together > 0) add(0, words[n_together - 1].second);
    for (size_t i = n_together; i < words.size(); ++i) add(words[i].first, words[i].second);
  } else {
    for (size_t i = 0; i < n_alone; ++i) add(words[i].first, words[i].second);
    if (n_alone < words.size()) add(words[n_alone].first, text.size());
  }
  return runtime.NewList(std::move(parts));
}

Value SplitLines(Runtime& runtime, std::string_view text, bool keep_ends) {
  runtime.budget().SpendCharacters(text.size());
  std::vector<Value> lines;
  size_t begin = 0;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end_bytes = LineEndBytes(text.substr(at));
    if (end_bytes == 0) {
      ++at;
      continue;
    }
    const size_t line_bytes = at - begin + (keep_ends ? end_bytes : 0);
    lines.push_back(runtime.Text(std::string(text.substr(begin, line_bytes))));
    at += end_bytes;
    begin = at;
  }
  if (begin < text.size()) lines.push_back(runtime.Text(std::string(text.substr(begin))));
  return runtime.NewList(std::move(lines));
}

Value ReplaceText(Runtime& runtime, std::string_view text, std::string_view old,
                  std::string_view replacement, int64_t count) {
  runtime.budget().SpendBytes(text.size());
  std::string out;
  size_t begin = 0;
  const std::vector<size_t> offsets = old.empty() ? CharacterOffsets(text) : std::vector<size_t>{};
  for (int64_t n_done = 0; count < 0 || n_done < count; ++n_done) {
    // An empty text stands before every character and at the end.
    const auto index = static_cast<size_t>(n_done);
    const bool at_end = old.empty() && index >= offsets.size();
    const size_t found = at_end        ? std::string_view::npos
                         : old.empty() ? offsets[index]
                                       : FindText(text, old, begin);
    if (found == std::string_view::npos) break;
    out += text.substr(begin, found - begin);
    out += replacement;
    begin = found + old.size();
    runtime.budget().CheckSize(out.size());
  }
  out += text.substr(begin);
  return runtime.Text(std::move(out));
}

std::string TitleWords(std::string_view text) {
  std::string out;
  bool in_word = false;
  while (!text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    const bool is_letter = first.status == Utf8Status::kValid && IsAlpha(first.codepoint);
    const std::string_view character = text.substr(0, first.n_bytes);
    out += in_word ? Lower(character) : Upper(character);
    in_word = is_letter;
    text.remove_prefix(first.n_bytes);
  }
  return out;
}

bool AllCharacters(std::string_view text, bool (*holds)(uint32_t)) {
  bool all = !text.empty();
  while (all && !text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    all = first.status == Utf8Status::kValid && holds(first.codepoint);
    text.remove_prefix(first.n_bytes);
  }
  return all;
}

}  // namespace thermocline::jinja
