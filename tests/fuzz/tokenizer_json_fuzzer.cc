// A libFuzzer harness of tokenizer.json and of tokenizer.model: whatever the bytes, there is an
// Error of one line or a vocabulary whose parts are of one length.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "runtime/import/imported_vocabulary.h"
#include "runtime/safetensors/bounded_json.h"
#include "tests/fuzz/use_tokenizer.h"

namespace {

using thermocline::AddedToken;
using thermocline::ImportedVocabulary;

void UseVocabulary(const std::vector<AddedToken>& added, ImportedVocabulary vocab) {
  thermocline::AddTokens(added, std::nullopt, "fuzz", &vocab);
  if (vocab.types.size() != vocab.tokens.size() || vocab.tokens.empty()) std::abort();
  if (vocab.model != "gpt2" && vocab.scores.size() != vocab.tokens.size()) std::abort();
  if (thermocline::VocabularyKeys(vocab).size() < 4) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  thermocline::ExpectOneLineErrors([&] {
    std::vector<AddedToken> added;
    ImportedVocabulary vocab = thermocline::ParseTokenizerJson(
        thermocline::ParseBoundedJson(bytes, "tokenizer.json", {}), "tokenizer.json", {}, &added);
    UseVocabulary(added, std::move(vocab));
  });
  thermocline::ExpectOneLineErrors(
      [&] { UseVocabulary({}, thermocline::ParseSentencepieceModel(bytes, "tokenizer.model")); });
  return 0;
}
