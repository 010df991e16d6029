#include "tools/terminal/chat_session.h"

#include <fmt/format.h>

#include <utility>

#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

constexpr const char* kGreeting =
    "Each line is appended to the text so far and the model goes on from there. /help for more.\n";
constexpr const char* kHelp =
    "  /reset   forget the text so far\n"
    "  /help    this\n"
    "  /exit    leave (so does Ctrl-D)\n"
    "An empty line lets a reply that was cut off go on. Ctrl-C stops a reply; at the prompt it "
    "leaves.\n";
constexpr const char* kContextFull =
    "[the context is full: /reset starts a new text; a larger -c holds more]\n";

}  // namespace

ChatSession::ChatSession(Generator& generator, int64_t max_tokens, Print text, Print notes)
    : generator_(generator),
      max_tokens_(max_tokens),
      text_(std::move(text)),
      notes_(std::move(notes)) {}

bool ChatSession::Run(const std::string& prompt, LineReader& lines) {
  notes_(kGreeting);
  if (!prompt.empty()) Say(prompt);
  std::string line;
  while (!InterruptRequested()) {
    const LineStatus status = lines.Read(&line);
    if (status == LineStatus::kInterrupted) return true;
    if (status == LineStatus::kEnd) return false;
    if (line.starts_with('/')) {
      if (Obey(line) == Outcome::kLeave) return false;
    } else if (!line.empty() || generator_.can_go_on()) {
      Say(line);
    }
  }
  return true;  // a request to terminate, which came during a reply
}

ChatSession::Outcome ChatSession::Obey(const std::string& command) {
  if (command == "/exit") return Outcome::kLeave;
  if (command == "/reset") {
    generator_.Reset();
    notes_("[forgotten]\n");
  } else if (command == "/help") {
    notes_(kHelp);
  } else {
    notes_("[no such command: /help lists them; a space in front makes it text]\n");
  }
  return Outcome::kGoOn;
}

void ChatSession::Say(const std::string& line) {
  const std::vector<int32_t> ids = generator_.Encode(line);
  const int64_t room = generator_.room_tokens();
  if (static_cast<int64_t>(ids.size()) > room || room == 0) {
    if (room > 0) {
      notes_(
          fmt::format("[{} tokens are left in the context, the line has {}]\n", room, ids.size()));
    }
    notes_(kContextFull);
    return;
  }
  const Generation reply = generator_.Continue(ids, max_tokens_, text_);
  totals_ += reply;
  text_("\n");
  if (reply.stop == StopReason::kContextFull) notes_(kContextFull);
  if (reply.stop == StopReason::kInterrupted) {
    notes_(reply.prompt_tokens == 0 ? "[stopped; the line was not read]\n" : "[stopped]\n");
  }
  ClearInterrupt();  // also one that came when the reply had ended: it must not leave the prompt
}

}  // namespace thermocline
