#include "tools/serve/constraints.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/text/token_sets.h"

namespace thermocline {
namespace {

// Says of what an error is.
template <typename F>
std::shared_ptr<const TokenMask> Named(const char* what, F make) {
  try {
    return make();
  } catch (const Error& error) {
    throw ApiError(ApiErrorKind::kInvalidRequest, std::string(what) + ": " + error.what());
  }
}

}  // namespace

std::vector<int32_t> Constraints::AllEnds(const std::vector<int32_t>& ends) const {
  std::vector<int32_t> all = EndTokens(tokenizer_);
  all.insert(all.end(), ends.begin(), ends.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::shared_ptr<const GrammarVocabulary> Constraints::Vocabulary() {
  const std::lock_guard lock(mutex_);
  if (vocabulary_ == nullptr) vocabulary_ = std::make_shared<GrammarVocabulary>(tokenizer_);
  return vocabulary_;
}

std::shared_ptr<const CompiledGrammar> Constraints::Compile(const std::string& gbnf) {
  const std::shared_ptr<const GrammarVocabulary> vocabulary = Vocabulary();
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.gbnf == gbnf; });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return kept_.front().grammar;
  }
  auto grammar = std::make_shared<const CompiledGrammar>(gbnf, vocabulary);
  kept_.push_front({gbnf, grammar});
  if (kept_.size() > kMaxKept) kept_.pop_back();
  return grammar;
}

std::shared_ptr<const TokenMask> Constraints::Mask(const std::string& gbnf,
                                                   const std::vector<int32_t>& ends) {
  if (gbnf.empty()) return nullptr;
  return std::make_shared<GrammarMask>(Compile(gbnf), AllEnds(ends));
}

std::shared_ptr<const TokenMask> Constraints::OfGrammar(const std::string& gbnf,
                                                        const std::vector<int32_t>& ends) {
  return Named("'grammar'", [&] { return Mask(gbnf, ends); });
}

std::shared_ptr<const TokenMask> Constraints::OfSchema(const ApiJson& schema,
                                                       const std::vector<int32_t>& ends) {
  return Named("the JSON schema", [&] { return Mask(JsonSchemaGbnf(schema), ends); });
}

std::shared_ptr<const TokenMask> Constraints::OfAnswer(const ApiJson& schema,
                                                       const ReplyFormat& format,
                                                       const std::vector<int32_t>& ends) {
  return Named("the JSON schema",
               [&] { return Mask(JsonAnswerGbnf(schema, format, *Vocabulary()), ends); });
}

std::shared_ptr<const TokenMask> Constraints::OfTools(const ChatRequest& chat,
                                                      const ReplyFormat& format,
                                                      const std::vector<int32_t>& ends) {
  return Named("'tools'", [&] {
    return Mask(
        ToolCallGbnf(chat.tool_list, chat.tool_choice, chat.parallel_calls, format, *Vocabulary()),
        ends);
  });
}

}  // namespace thermocline
