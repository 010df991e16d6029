// What the sessions of `run` have in common: lines from the user, commands among them, and what is
// said about replies.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "runtime/engine/generate.h"
#include "tools/terminal/line_reader.h"

namespace thermocline {

class Session {
 public:
  using Print = std::function<void(std::string_view)>;

  // `text` prints the model's words, `notes` everything else.
  Session(Print text, Print notes);
  virtual ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Says `first`, if it is not empty, then takes lines until the user leaves. Returns whether that
  // was by Ctrl-C.
  bool Run(const std::string& first, LineReader& lines);
  const Generation& totals() const { return totals_; }

 protected:
  virtual const char* greeting() const = 0;
  virtual const char* help() const = 0;
  // What to do when the context is full.
  virtual const char* context_advice() const = 0;
  // Whether an empty line lets a reply go on.
  virtual bool can_go_on() const = 0;
  virtual void Say(const std::string& line) = 0;
  // Obeys a command but /exit and /help; returns false where there is no such one. An offered text
  // goes to `lines`.
  virtual bool Obey(const std::string& command, const std::string& argument, LineReader& lines) = 0;

  void Note(std::string_view text) const { notes_(text); }
  const Print& text() const { return text_; }
  // Ends the line of a reply, adds it up and says why it ended, where that is of interest.
  void TellEnd(const Generation& reply);
  void TellContextFull() const;

 private:
  enum class Outcome { kGoOn, kLeave };
  Outcome Take(const std::string& command_line, LineReader& lines);

  Print text_;
  Print notes_;
  Generation totals_;
};

}  // namespace thermocline
