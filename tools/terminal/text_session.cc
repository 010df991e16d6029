#include "tools/terminal/text_session.h"

#include <fmt/format.h>

#include <utility>

namespace thermocline {
namespace {

constexpr const char* kTextGreeting =
    "Each line is appended to the text so far and the model goes on from there. /help for more.\n";
constexpr const char* kTextHelp =
    "  /reset   forget the text so far\n"
    "  /help    this\n"
    "  /exit    leave (so does Ctrl-D)\n"
    "An empty line lets a reply that was cut off go on. Ctrl-C stops a reply; at the prompt it "
    "leaves.\n";

}  // namespace

TextSession::TextSession(Generator& generator, int64_t max_tokens, Print text, Print notes)
    : Session(std::move(text), std::move(notes)), generator_(generator), max_tokens_(max_tokens) {}

const char* TextSession::greeting() const { return kTextGreeting; }

const char* TextSession::help() const { return kTextHelp; }

bool TextSession::Obey(const std::string& command, const std::string& /*argument*/,
                       LineReader& /*lines*/) {
  if (command != "/reset") return false;
  generator_.Reset();
  Note("[forgotten]\n");
  return true;
}

void TextSession::Say(const std::string& line) {
  const std::vector<int32_t> ids = generator_.Encode(line);
  const int64_t room = generator_.room_tokens();
  if (static_cast<int64_t>(ids.size()) <= room && room > 0) {
    return TellEnd(generator_.Continue(ids, max_tokens_, text()));
  }
  if (room > 0) {
    Note(fmt::format("[{} tokens are left in the context, the line has {}]\n", room, ids.size()));
  }
  TellContextFull();
}

}  // namespace thermocline
