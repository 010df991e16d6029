// Grammars and schemas of requests, as masks of tokens.
#pragma once

#include <memory>
#include <string>

#include "runtime/sampling/token_mask.h"
#include "runtime/text/tokenizer.h"
#include "tools/serve/api_error.h"

namespace thermocline {

// Compiles what requests constrain their replies with. Threads may call it at the same time.
class Constraints {
 public:
  // `tokenizer` must outlive this and what it makes.
  explicit Constraints(const Tokenizer& tokenizer);
  ~Constraints();

  // Both throw ApiError (400), which says where a grammar is not well-formed, or names the keyword
  // of a schema that cannot be honoured.
  std::shared_ptr<const TokenMask> OfGrammar(const std::string& gbnf);
  std::shared_ptr<const TokenMask> OfSchema(const Json& schema);

 private:
  const Tokenizer& tokenizer_;
};

}  // namespace thermocline
