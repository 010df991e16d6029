// Grammars and schemas of requests, as masks of tokens.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/grammar/grammar_mask.h"
#include "runtime/text/tokenizer.h"
#include "tools/serve/chat_request.h"

namespace thermocline {

// Compiles what requests constrain their replies with, and keeps what was compiled last: agents
// send the same schema again and again. Threads may call it at the same time.
class Constraints {
 public:
  // `tokenizer` must outlive this.
  explicit Constraints(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // ends: the tokens that end a reply, beside the vocabulary's. Both throw ApiError (400), which
  // says where a grammar is not well-formed, or names the keyword of a schema that cannot be
  // honoured.
  std::shared_ptr<const TokenMask> OfGrammar(const std::string& gbnf,
                                             const std::vector<int32_t>& ends);
  std::shared_ptr<const TokenMask> OfSchema(const ApiJson& schema,
                                            const std::vector<int32_t>& ends);
  // The same for the answer behind a reply's reasoning, and for calls of tools; null: nothing is
  // constrained.
  std::shared_ptr<const TokenMask> OfAnswer(const ApiJson& schema, const ReplyFormat& format,
                                            const std::vector<int32_t>& ends);
  std::shared_ptr<const TokenMask> OfTools(const ChatRequest& chat, const ReplyFormat& format,
                                           const std::vector<int32_t>& ends);

 private:
  static constexpr size_t kMaxKept = 32;

  std::shared_ptr<const GrammarVocabulary> Vocabulary();
  std::shared_ptr<const CompiledGrammar> Compile(const std::string& gbnf);
  std::shared_ptr<const TokenMask> Mask(const std::string& gbnf, const std::vector<int32_t>& ends);
  std::vector<int32_t> AllEnds(const std::vector<int32_t>& ends) const;

  const Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const GrammarVocabulary> vocabulary_;  // made when it is first needed
  struct Kept {
    std::string gbnf;
    std::shared_ptr<const CompiledGrammar> grammar;
  };
  std::list<Kept> kept_;  // the last used first
};

}  // namespace thermocline
