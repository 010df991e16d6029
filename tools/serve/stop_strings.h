// Ends a text where one of some strings stands in it, also across the borders of tokens. What could
// be the beginning of one is held back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

class StopStrings {
 public:
  static constexpr size_t kMaxStrings = 32;
  static constexpr size_t kMaxBytes = 256;  // of each

  // REQUIRES: within the limits above; none is empty.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Adds text; returns what is sure to stand before any of the strings. REQUIRES: !found().
  std::string Push(std::string_view text);
  // Returns what was held back. REQUIRES: !found().
  std::string Finish();
  bool found() const { return !word_.empty(); }
  // The string that was found.
  const std::string& word() const { return word_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  std::string word_;
};

}  // namespace thermocline
