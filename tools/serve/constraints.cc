#include "tools/serve/constraints.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/text/token_sets.h"

namespace thermocline {

std::vector<int32_t> Constraints::AllEnds(const std::vector<int32_t>& ends) const {
  std::vector<int32_t> all = EndTokens(tokenizer_);
  all.insert(all.end(), ends.begin(), ends.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::shared_ptr<const CompiledGrammar> Constraints::Compile(const std::string& gbnf) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const Kept& kept) { return kept.gbnf == gbnf; });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return kept_.front().grammar;
  }
  if (vocabulary_ == nullptr) vocabulary_ = std::make_shared<GrammarVocabulary>(tokenizer_);
  auto grammar = std::make_shared<const CompiledGrammar>(gbnf, vocabulary_);
  kept_.push_front({gbnf, grammar});
  if (kept_.size() > kMaxKept) kept_.pop_back();
  return grammar;
}

std::shared_ptr<const TokenMask> Constraints::OfGrammar(const std::string& gbnf,
                                                        const std::vector<int32_t>& ends) {
  try {
    return std::make_shared<GrammarMask>(Compile(gbnf), AllEnds(ends));
  } catch (const Error& error) {
    throw ApiError(ApiErrorKind::kInvalidRequest, std::string("'grammar': ") + error.what());
  }
}

std::shared_ptr<const TokenMask> Constraints::OfSchema(const Json& schema,
                                                       const std::vector<int32_t>& ends) {
  try {
    return std::make_shared<GrammarMask>(Compile(JsonSchemaGbnf(schema)), AllEnds(ends));
  } catch (const Error& error) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   std::string("the JSON schema: ") + error.what());
  }
}

}  // namespace thermocline
