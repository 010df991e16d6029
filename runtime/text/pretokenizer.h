// Cuts a text into the words that byte pair encoding works on, with the expressions of
// pretokenizer_table.h compiled by PCRE2.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/text/pretokenizer_table.h"

namespace thermocline {

class Pretokenizer {
 public:
  using Emit = std::function<void(std::string_view)>;

  // REQUIRES: the expressions are those of the table (others that do not compile abort).
  explicit Pretokenizer(const PretokenizerInfo& info);
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

  // Calls `emit` with every word of the text, in order; none is empty, and together they are the
  // text. A byte that is no UTF-8 is a word of its own. Threads may call this at the same time.
  void Split(std::string_view text, const Emit& emit) const;

 private:
  struct Step;
  class Matcher;
  // Applies the steps from `step` on to a piece.
  void SplitFrom(size_t step, std::string_view piece, Matcher& matcher, const Emit& emit) const;
  // Does the same for each three characters of a piece, counted from its end.
  void SplitThrees(size_t step, std::string_view piece, Matcher& matcher, const Emit& emit) const;

  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace thermocline
