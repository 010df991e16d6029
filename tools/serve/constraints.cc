#include "tools/serve/constraints.h"

namespace thermocline {

Constraints::Constraints(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
Constraints::~Constraints() = default;

std::shared_ptr<const TokenMask> Constraints::OfGrammar(const std::string& /*gbnf*/) {
  throw ApiError(ApiErrorKind::kInvalidRequest, "'grammar' is not supported");
}

std::shared_ptr<const TokenMask> Constraints::OfSchema(const Json& /*schema*/) {
  throw ApiError(ApiErrorKind::kInvalidRequest, "JSON schemas are not supported");
}

}  // namespace thermocline
