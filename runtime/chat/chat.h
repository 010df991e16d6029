// A chat with a model: the conversation so far, and replies to it. What the KV cache holds of the
// turns before is used again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/chat/chat_format.h"
#include "runtime/chat/conversation.h"
#include "runtime/engine/generate.h"

namespace thermocline {

class Chat {
 public:
  // Both must outlive the chat. Replies end at the format's reply_ends(), too.
  Chat(Generator& generator, const ChatFormat& format);

  const Conversation& conversation() const { return conversation_; }
  // Takes another conversation's place; its last message may be anybody's.
  void set_conversation(Conversation conversation);
  void set_system(std::string_view text);
  // Forgets all but what the system says; the sampler starts anew from its seed.
  void Reset();

  // Adds a message of the user and the model's reply, of at most max_tokens (-1: until it ends).
  // What was written of a reply that was stopped stays. A message that was not read is taken back:
  // when it is interrupted (Generation::prompt_tokens is 0 then), and when Error is thrown, where
  // the template refuses the conversation or the context has no room for it.
  Generation Say(std::string_view text, int64_t max_tokens, const Generator::TextSink& sink);
  // Replies once more to the user's last message, without the reply that is there. The conversation
  // is as before where nothing was read, as with Say. REQUIRES: can_reply().
  Generation ReplyAgain(int64_t max_tokens, const Generator::TextSink& sink);
  bool can_reply() const;
  // Puts another text in the place of the user's last message and replies to it. REQUIRES:
  // can_reply().
  Generation SayInstead(std::string_view text, int64_t max_tokens, const Generator::TextSink& sink);
  // Goes on with a reply that was cut off. REQUIRES: can_go_on().
  Generation GoOn(int64_t max_tokens, const Generator::TextSink& sink);
  bool can_go_on() const { return cut_off_ && generator_.can_go_on(); }
  // The user's last message. REQUIRES: can_reply().
  std::string last_user_text() const;

  int64_t context_tokens() const { return generator_.context_tokens(); }
  // Tokens of the context that are in use.
  int64_t used_tokens() const { return generator_.context_tokens() - generator_.room_tokens(); }

 private:
  // Replies to a conversation that ends with the user's message and makes it the chat's.
  Generation Reply(Conversation conversation, int64_t max_tokens, const Generator::TextSink& sink);
  void NoteStop(const Generation& generation);

  Generator& generator_;
  const ChatFormat& format_;
  Conversation conversation_;
  bool cut_off_ = false;  // the last message is a reply that the model did not end
};

}  // namespace thermocline
