// The session of a chat: messages, replies, and commands that change the conversation.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/chat/chat.h"
#include "tools/terminal/session.h"

namespace thermocline {

// How /save and /load reach files. Both throw Error.
struct ConversationFiles {
  std::function<std::string(const std::string& path)> read;
  std::function<void(const std::string& path, const std::string& text)> write;
};

class ChatSession : public Session {
 public:
  ChatSession(Chat& chat, int64_t max_tokens, ConversationFiles files, Print text, Print notes);

 protected:
  const char* greeting() const override;
  const char* help() const override;
  const char* context_advice() const override {
    return "/reset starts a new conversation, /edit makes the last message shorter";
  }
  bool can_go_on() const override { return chat_.can_go_on(); }
  void Say(const std::string& line) override;
  bool Obey(const std::string& command, const std::string& argument, LineReader& lines) override;

 private:
  // Lets the model reply and tells how it ended, or why it could not.
  void Reply(const std::function<Generation()>& reply);
  void Reset();
  void ReplyAgain();
  void Edit(const std::string& message, LineReader& lines);
  void Save(const std::string& path);
  void Load(const std::string& path);
  void System(const std::string& message);
  void TellNumbers();
  // Whether a file is named; says so where none is.
  bool HasFileName(const std::string& command, const std::string& path);
  // Whether the user has said something; says so otherwise.
  bool HasMessage();
  // Does what may throw Error, and says what is wrong when it does.
  void Try(const std::function<void()>& work);

  Chat& chat_;
  int64_t max_tokens_;
  ConversationFiles files_;
  Generation last_;
};

}  // namespace thermocline
