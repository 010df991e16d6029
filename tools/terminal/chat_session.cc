#include "tools/terminal/chat_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "runtime/core/error.h"
#include "tools/reports/messages.h"

namespace thermocline {
namespace {

constexpr const char* kChatGreeting = "Each line is a message to the model. /help for more.\n";
constexpr const char* kChatHelp =
    "  /regen          another reply to the last message\n"
    "  /edit [TEXT]    change the last message: here, or to TEXT\n"
    "  /system [TEXT]  show the system prompt, or set it\n"
    "  /save FILE      write the conversation, as `render --messages` reads it\n"
    "  /load FILE      go on with a conversation that was written\n"
    "  /stats          how long the conversation is, and how fast the last reply was\n"
    "  /reset          forget the conversation; the system prompt stays\n"
    "  /help           this\n"
    "  /exit           leave (so do /bye and Ctrl-D)\n"
    "An empty line lets a reply that was cut off go on. Ctrl-C stops a reply, and what is there of "
    "it\nstays; at the prompt it leaves. A space in front of / makes the line a message.\n";

double TokensPerSecond(int64_t n_tokens, double ms) {
  return ms > 0 ? 1000.0 * static_cast<double>(n_tokens) / ms : 0;
}

bool IsAboutContext(const Error& error) {
  return std::ranges::any_of(error.info().settings, [](const SettingUse& use) {
    return use.setting == Setting::kContextSize;
  });
}

}  // namespace

ChatSession::ChatSession(Chat& chat, int64_t max_tokens, ConversationFiles files, Print text,
                         Print notes)
    : Session(std::move(text), std::move(notes)),
      chat_(chat),
      max_tokens_(max_tokens),
      files_(std::move(files)) {}

const char* ChatSession::greeting() const { return kChatGreeting; }

const char* ChatSession::help() const { return kChatHelp; }

void ChatSession::Say(const std::string& line) {
  Reply([&] {
    return line.empty() ? chat_.GoOn(max_tokens_, text()) : chat_.Say(line, max_tokens_, text());
  });
}

bool ChatSession::Obey(const std::string& command, const std::string& argument, LineReader& lines) {
  if (command == "/reset") {
    Reset();
  } else if (command == "/regen") {
    ReplyAgain();
  } else if (command == "/edit") {
    Edit(argument, lines);
  } else if (command == "/save") {
    Save(argument);
  } else if (command == "/load") {
    Load(argument);
  } else if (command == "/system") {
    System(argument);
  } else if (command == "/stats") {
    TellNumbers();
  } else {
    return false;
  }
  return true;
}

void ChatSession::Try(const std::function<void()>& work) {
  try {
    work();
  } catch (const Interrupted&) {
    Note("[stopped]\n");
  } catch (const Error& error) {
    Note(fmt::format("[{}]\n", ErrorText(error, "run")));
    if (IsAboutContext(error)) TellContextFull();
  }
}

void ChatSession::Reply(const std::function<Generation()>& reply) {
  Try([&] {
    last_ = reply();
    TellEnd(last_);
  });
}

void ChatSession::Reset() {
  chat_.Reset();
  last_ = {};
  Note("[forgotten]\n");
}

bool ChatSession::HasMessage() {
  if (chat_.can_reply()) return true;
  Note("[there is no message yet]\n");
  return false;
}

void ChatSession::ReplyAgain() {
  if (!HasMessage()) return;
  Reply([&] { return chat_.ReplyAgain(max_tokens_, text()); });
}

void ChatSession::Edit(const std::string& message, LineReader& lines) {
  if (!HasMessage()) return;
  if (!message.empty()) {
    return Reply([&] { return chat_.SayInstead(message, max_tokens_, text()); });
  }
  // What comes back as a line is the command with the text behind it.
  if (!lines.Offer("/edit " + chat_.last_user_text())) {
    Note("[lines cannot be edited here: write /edit and the new text]\n");
  }
}

bool ChatSession::HasFileName(const std::string& command, const std::string& path) {
  if (!path.empty()) return true;
  Note(fmt::format("[which file? {} chat.json]\n", command));
  return false;
}

void ChatSession::Save(const std::string& path) {
  if (!HasFileName("/save", path)) return;
  Try([&] {
    files_.write(path, chat_.conversation().ToJson());
    Note(fmt::format("[{}: {} messages]\n", Printable(path),
                     chat_.conversation().messages().size()));
  });
}

void ChatSession::Load(const std::string& path) {
  if (!HasFileName("/load", path)) return;
  Try([&] {
    Conversation loaded = Conversation::Parse(files_.read(path), path);
    const bool waits = loaded.EndsWith("user");
    Note(fmt::format("[{}: {} messages{}]\n", Printable(path), loaded.messages().size(),
                     waits ? "; /regen replies to the last one" : ""));
    chat_.set_conversation(std::move(loaded));
  });
}

void ChatSession::System(const std::string& message) {
  if (!message.empty()) {
    chat_.set_system(message);
    return Note("[set: it holds from the next message on]\n");
  }
  const std::string system = chat_.conversation().system();
  if (system.empty()) return Note("[there is no system prompt: /system TEXT sets one]\n");
  // It may come from a file: what it holds is shown, and not obeyed by the terminal.
  std::istringstream lines(system);
  for (std::string line; std::getline(lines, line);) Note(Printable(line, 4 * line.size()) + "\n");
}

void ChatSession::TellNumbers() {
  Note(fmt::format("messages  {}\ncontext   {} of {} tokens\n", chat_.conversation().n_turns(),
                   chat_.used_tokens(), chat_.context_tokens()));
  if (last_.prompt_tokens == 0) return;
  Note(fmt::format("prompt    {} tokens read, {:.1f} tok/s; {} kept from before\n",
                   last_.prompt_tokens, TokensPerSecond(last_.prompt_tokens, last_.prefill_ms),
                   last_.kept_tokens));
  Note(fmt::format("reply     {} tokens, {:.1f} tok/s\n", last_.generated_tokens,
                   TokensPerSecond(last_.decode_passes, last_.decode_ms)));
}

}  // namespace thermocline
