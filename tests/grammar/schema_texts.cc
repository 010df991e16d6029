// Makes random schemas and, for each, texts of tokens that are drawn evenly among those that the
// mask allows; writes a line {"schema": ..., "texts": [...]} each, for check_schema_texts.py.
// Usage: schema_texts SEED SCHEMAS TEXTS [VOCABULARY.gguf]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/text/tokenizer.h"
#include "tests/grammar/grammar_testing.h"
#include "tests/grammar/random_schema.h"

namespace thermocline {
namespace {

constexpr int kMaxTokens = 4000;

std::shared_ptr<const GrammarVocabulary> SmallVocabulary() {
  return ByteVocabulary({"{\"",      "\":",  "\": ",     "\",",      "\", \"", "\"}",  "}}",
                         "},",       "],",   "]]",       "[{",       "true",   "fal",  "se",
                         "null",     "nu",   "10",       "00",       "0.",     ".5",   "-1",
                         "e1",       "abc",  "\\n",      "\\u00",    "\\\"",   "é",    "日本",
                         "\xE6\x97", "\xA5", "\xF0\x9F", "\x98\x80", " \"",    "\n  ", "red",
                         "id\":",    "name", "2024-",    "T00:",     "@a.",    "kind"});
}

// Draws a text. Behind `patience` tokens it takes what ends strings, lists and objects first.
std::optional<std::string> Draw(const std::shared_ptr<const CompiledGrammar>& grammar,
                                std::vector<int32_t> ends, int patience, std::mt19937_64& random) {
  const GrammarVocabulary& vocabulary = grammar->vocabulary();
  GrammarMask mask(grammar, std::move(ends));
  std::string text;
  for (int n = 0; n < kMaxTokens; ++n) {
    std::vector<int32_t> allowed = AllowedIds(mask, vocabulary.size());
    if (allowed.empty()) throw Error({.what = "no token may follow: " + text});
    const auto keep = [&](auto&& wanted) {
      std::vector<int32_t> kept;
      std::copy_if(allowed.begin(), allowed.end(), std::back_inserter(kept), wanted);
      if (!kept.empty()) allowed = std::move(kept);
      return !allowed.empty();
    };
    const auto only = [&](std::string_view bytes) {
      return [&, bytes](int32_t id) {
        const std::string& text_of = vocabulary.bytes(id);
        return text_of.find_first_not_of(bytes) == std::string::npos;  // ends have none
      };
    };
    const auto without = [&](std::string_view bytes) {
      return [&, bytes](int32_t id) {
        return vocabulary.bytes(id).find_first_of(bytes) == std::string::npos;
      };
    };
    if (n > patience) {
      keep(without("{[,\\ \n\t"));
      keep(only("\"]}"));
      if (mask.may_end()) return text;
    }
    const int32_t id = allowed[random() % allowed.size()];
    if (!mask.Allows(id)) throw Error({.what = "Allows and Fill differ: " + text});
    mask.Accept(id);
    if (vocabulary.bytes(id).empty()) return text;
    text += vocabulary.bytes(id);
  }
  return std::nullopt;
}

int Main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s SEED SCHEMAS TEXTS [VOCABULARY.gguf]\n", argv[0]);
    return 2;
  }
  RandomSchemas schemas(std::strtoull(argv[1], nullptr, 10));
  std::shared_ptr<const GrammarVocabulary> vocabulary = SmallVocabulary();
  std::vector<int32_t> ends = {kEndToken};
  if (argc > 4) {
    const GgufReader gguf(argv[4]);
    const std::unique_ptr<Tokenizer> tokenizer = MakeTokenizer(gguf);
    vocabulary = std::make_shared<GrammarVocabulary>(*tokenizer);
    ends = {tokenizer->eos_id()};
  }
  int n_unfinished = 0;
  for (int i = 0, n = std::atoi(argv[2]); i < n; ++i) {
    const SchemaJson schema = schemas.Next();
    SchemaJson line = {{"schema", schema}, {"texts", SchemaJson::array()}};
    try {
      const auto grammar = std::make_shared<CompiledGrammar>(JsonSchemaGbnf(schema), vocabulary);
      for (int j = 0, texts = std::atoi(argv[3]); j < texts; ++j) {
        const int patience = static_cast<int>(schemas.random()() % 120);
        const auto text = Draw(grammar, ends, patience, schemas.random());
        if (text) line["texts"].push_back(*text);
        n_unfinished += text ? 0 : 1;
      }
    } catch (const Error& error) {
      line["error"] = error.what();
    }
    std::printf("%s\n", line.dump().c_str());
  }
  std::fprintf(stderr, "%d texts did not end within %d tokens\n", n_unfinished, kMaxTokens);
  return 0;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) { return thermocline::Main(argc, argv); }
