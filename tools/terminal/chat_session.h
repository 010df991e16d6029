// The chat-like session of `run -i`: the user's lines and the model's text make one growing text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/engine/generate.h"
#include "tools/terminal/line_reader.h"

namespace thermocline {

class ChatSession {
 public:
  using Print = std::function<void(std::string_view)>;

  // `text` prints the model's words, `notes` everything else.
  ChatSession(Generator& generator, int64_t max_tokens, Print text, Print notes);

  // Lets the model go on from `prompt`, then takes lines until the user leaves. Returns whether
  // that was by Ctrl-C.
  bool Run(const std::string& prompt, LineReader& lines);
  const Generation& totals() const { return totals_; }

 private:
  enum class Outcome { kGoOn, kLeave };
  Outcome Obey(const std::string& command);
  void Say(const std::string& line);

  Generator& generator_;
  int64_t max_tokens_;
  Print text_;
  Print notes_;
  Generation totals_;
};

}  // namespace thermocline
