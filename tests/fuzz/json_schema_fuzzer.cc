// A libFuzzer harness of JSON schemas: whatever the bytes, there is a grammar or an Error of one
// line, within the limits; and a text that the grammar lets end is JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/grammar/json_schema.h"
#include "tests/fuzz/use_tokenizer.h"
#include "tests/grammar/grammar_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto vocabulary = thermocline::ByteVocabulary({"\":", "\",\"", "}}", "]}", "\\u00"});
  const auto schema = thermocline::SchemaJson::parse(data, data + size, nullptr, false);
  if (schema.is_discarded()) return 0;
  thermocline::ExpectOneLineErrors([&] {
    const auto grammar = std::make_shared<thermocline::CompiledGrammar>(
        thermocline::JsonSchemaGbnf(schema), vocabulary);
    thermocline::GrammarMask mask(grammar, {thermocline::kEndToken});
    std::string text;
    for (size_t i = 0; i < 60; ++i) {
      const std::vector<int32_t> allowed = thermocline::AllowedIds(mask, vocabulary->size());
      if (allowed.empty()) break;
      if (mask.may_end() && !nlohmann::json::accept(text)) std::abort();
      // The last ones end strings, lists and objects more often than the first.
      const int32_t id = allowed[(size * 7 + i * 131) % allowed.size()];
      if (id == thermocline::kEndToken) break;
      mask.Accept(id);
      text += vocabulary->bytes(id);
    }
  });
  return 0;
}
