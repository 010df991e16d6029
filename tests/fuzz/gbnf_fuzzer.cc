// A libFuzzer harness of grammars: whatever the bytes, there is a compiled grammar or an Error of
// one line, within the limits; and a mask allows the tokens that it then takes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tests/fuzz/use_tokenizer.h"
#include "tests/grammar/grammar_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto vocabulary = thermocline::ByteVocabulary({"ab", "::=", "\n\n", "é", "\xC3"});
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  thermocline::ExpectOneLineErrors([&] {
    const auto grammar = std::make_shared<thermocline::CompiledGrammar>(text, vocabulary);
    thermocline::GrammarMask mask(grammar, {thermocline::kEndToken});
    for (size_t i = 0; i < 12; ++i) {
      const std::vector<int32_t> allowed = thermocline::AllowedIds(mask, vocabulary->size());
      if (allowed.empty()) break;  // nesting is at its bound
      const int32_t id = allowed[(size + i * 31) % allowed.size()];
      if (!mask.Allows(id)) std::abort();
      mask.Accept(id);
      if (id == thermocline::kEndToken) break;
    }
  });
  return 0;
}
