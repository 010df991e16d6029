// Writes what was generated as an API's clients read it: a whole answer, or a stream of events.
// Called by one thread at a time.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "runtime/text/tokenizer.h"
#include "tools/serve/generation.h"

namespace thermocline {

// What an answer says of the server and of the request.
struct AnswerContext {
  std::shared_ptr<const GenerationSpec> spec;
  const Tokenizer* tokenizer = nullptr;
  std::string model;    // its name, as the server has it
  int64_t created = 0;  // seconds since 1970
  std::string id;       // random letters, of this answer
};

class Answer {
 public:
  explicit Answer(AnswerContext context) : context_(std::move(context)) {}
  virtual ~Answer() = default;

  // ---- a stream: each returns the events to send now, or nothing ----
  virtual std::string OnProgress(const Choice& choice) = 0;
  // `delta` is what a token has brought; choice has all so far, with the record of the token last.
  virtual std::string OnToken(const Choice& choice, const ReplyDelta& delta) = 0;
  // The choice has ended; `delta` is the last of it.
  virtual std::string OnEnd(const Choice& choice, const ReplyDelta& delta) = 0;
  virtual std::string OnAllEnded(std::span<const Choice> choices) = 0;

  virtual ApiJson Whole(std::span<const Choice> choices) = 0;

 protected:
  const GenerationSpec& spec() const { return *context_.spec; }
  const AnswerContext& context() const { return context_; }

 private:
  AnswerContext context_;
};

std::unique_ptr<Answer> MakeAnswer(AnswerContext context);
std::unique_ptr<Answer> MakeNativeAnswer(AnswerContext context);
std::unique_ptr<Answer> MakeTextAnswer(AnswerContext context);
std::unique_ptr<Answer> MakeChatAnswer(AnswerContext context);
std::unique_ptr<Answer> MakeResponsesAnswer(AnswerContext context);
std::unique_ptr<Answer> MakeMessagesAnswer(AnswerContext context);

// An error in a stream that has begun.
std::string ErrorEvent(Api api, const ApiError& error);

}  // namespace thermocline
