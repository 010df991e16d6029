#include "tools/serve/stop_strings.h"

#include <algorithm>
#include <utility>

namespace thermocline {

std::string StopStrings::Push(std::string_view text) {
  held_ += text;
  size_t first = std::string::npos;
  const std::string* word = nullptr;
  size_t n_keep = 0;  // bytes at the end that some string may begin with
  for (const std::string& string : strings_) {
    const size_t at = held_.find(string);
    if (at < first) {
      first = at;
      word = &string;
    }
    size_t n = std::min(string.size() - 1, held_.size());
    while (n > n_keep &&
           !std::string_view(held_).ends_with(std::string_view(string).substr(0, n))) {
      --n;
    }
    n_keep = std::max(n_keep, n);
  }
  if (word != nullptr) {
    word_ = *word;
    held_.resize(first);
    return std::exchange(held_, {});
  }
  std::string sure = held_.substr(0, held_.size() - n_keep);
  held_.erase(0, sure.size());
  return sure;
}

std::string StopStrings::Finish() { return std::exchange(held_, {}); }

}  // namespace thermocline
