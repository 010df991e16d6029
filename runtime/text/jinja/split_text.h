// How strings are cut and changed: the work behind methods and filters.
#pragma once

#include <string>
#include <string_view>

#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

// Each returns a list of strings. max_splits < 0: as many as there are.
// REQUIRES: the separator is not empty.
Value SplitAt(Runtime& runtime, std::string_view text, std::string_view separator,
              int64_t max_splits, bool from_right);
Value SplitAtSpace(Runtime& runtime, std::string_view text, int64_t max_splits, bool from_right);
Value SplitLines(Runtime& runtime, std::string_view text, bool keep_ends);

// Replaces the first `count` occurrences; count < 0: all.
Value ReplaceText(Runtime& runtime, std::string_view text, std::string_view old,
                  std::string_view replacement, int64_t count);

// Returns where `part` is last in `text`, or npos, in linear time.
size_t FindLastText(std::string_view text, std::string_view part);

// Makes the first letter of every run of letters upper case and the others lower case.
std::string TitleWords(std::string_view text);

// Whether there are characters and `holds` for all of them.
bool AllCharacters(std::string_view text, bool (*holds)(uint32_t));

}  // namespace thermocline::jinja
