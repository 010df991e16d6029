#include "runtime/chat/chat.h"

#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr std::string_view kUser = "user";
constexpr std::string_view kAssistant = "assistant";

}  // namespace

Chat::Chat(Generator& generator, const ChatFormat& format)
    : generator_(generator), format_(format) {
  generator_.EndAlsoAt(format.reply_ends());
}

void Chat::set_conversation(Conversation conversation) {
  conversation_ = std::move(conversation);
  cut_off_ = false;
}

void Chat::set_system(std::string_view text) {
  conversation_.set_system(text);
  cut_off_ = false;  // what is in the cache begins otherwise
}

void Chat::Reset() {
  conversation_.Clear();
  generator_.Reset();
  cut_off_ = false;
}

Generation Chat::Say(std::string_view text, int64_t max_tokens, const Generator::TextSink& sink) {
  Conversation next = conversation_;
  next.Add(kUser, text);
  return Reply(std::move(next), max_tokens, sink);
}

bool Chat::can_reply() const {
  Conversation copy = conversation_;
  return copy.RewindToUser();
}

std::string Chat::last_user_text() const {
  Conversation copy = conversation_;
  CHECK(copy.RewindToUser());
  return copy.last_text();
}

Generation Chat::ReplyAgain(int64_t max_tokens, const Generator::TextSink& sink) {
  return SayInstead(last_user_text(), max_tokens, sink);
}

Generation Chat::SayInstead(std::string_view text, int64_t max_tokens,
                            const Generator::TextSink& sink) {
  Conversation next = conversation_;
  CHECK(next.RewindToUser());
  next.RemoveLast();
  next.Add(kUser, text);
  return Reply(std::move(next), max_tokens, sink);
}

Generation Chat::GoOn(int64_t max_tokens, const Generator::TextSink& sink) {
  CHECK(can_go_on());
  const auto append = [&](std::string_view text) {
    conversation_.Append(text);
    sink(text);
  };
  const Generation generation = generator_.Continue({}, max_tokens, append);
  NoteStop(generation);
  return generation;
}

Generation Chat::Reply(Conversation conversation, int64_t max_tokens,
                       const Generator::TextSink& sink) {
  const std::vector<int32_t> ids = format_.Encode(conversation);
  if (ids.empty()) {
    throw Error({.what = "the chat template makes nothing of this conversation",
                 .hint = "use another chat template"});
  }
  std::string reply;
  const Generation generation =
      generator_.ContinueFrom(ids, max_tokens, [&](std::string_view text) {
        reply += text;
        sink(text);
      });
  if (generation.prompt_tokens == 0) {
    cut_off_ = false;  // the reply before, if any, is no longer in the cache
    return generation;
  }
  conversation.Add(kAssistant, reply);
  conversation_ = std::move(conversation);
  NoteStop(generation);
  return generation;
}

void Chat::NoteStop(const Generation& generation) {
  cut_off_ = generation.stop != StopReason::kEndOfText;
}

}  // namespace thermocline
