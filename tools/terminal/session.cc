#include "tools/terminal/session.h"

#include <fmt/format.h>

#include <utility>

#include "runtime/core/interrupt.h"

namespace thermocline {

Session::Session(Print text, Print notes) : text_(std::move(text)), notes_(std::move(notes)) {}

bool Session::Run(const std::string& first, LineReader& lines) {
  Note(greeting());
  std::string line;
  if (!first.empty()) Say(first);
  // Here and below: a Ctrl-C that stopped a reply, or came when it had ended, must not leave.
  ClearInterrupt();
  while (!InterruptRequested()) {
    const LineStatus status = lines.Read(&line);
    if (status == LineStatus::kInterrupted) return true;
    if (status == LineStatus::kEnd) return false;
    if (line.starts_with('/')) {
      if (Take(line, lines) == Outcome::kLeave) return false;
    } else if (!line.empty() || can_go_on()) {
      Say(line);
    }
    ClearInterrupt();
  }
  return true;  // a request to terminate, which came during a reply
}

Session::Outcome Session::Take(const std::string& command_line, LineReader& lines) {
  const size_t space = command_line.find(' ');
  const std::string command = command_line.substr(0, space);
  std::string argument = space == std::string::npos ? "" : command_line.substr(space);
  argument.erase(0, argument.find_first_not_of(' '));
  argument.erase(argument.find_last_not_of(' ') + 1);
  if (command == "/exit" || command == "/bye") return Outcome::kLeave;
  if (command == "/help") {
    Note(help());
  } else if (!Obey(command, argument, lines)) {
    Note("[no such command: /help lists them; a space in front makes it text]\n");
  }
  return Outcome::kGoOn;
}

void Session::TellEnd(const Generation& reply) {
  totals_ += reply;
  text_("\n");
  if (reply.stop == StopReason::kContextFull) TellContextFull();
  if (reply.stop == StopReason::kInterrupted) {
    Note(reply.prompt_tokens == 0 ? "[stopped; the line was not read]\n" : "[stopped]\n");
  }
}

void Session::TellContextFull() const {
  Note(fmt::format("[the context is full: {}; a larger -c holds more]\n", context_advice()));
}

}  // namespace thermocline
