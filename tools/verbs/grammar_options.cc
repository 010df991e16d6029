#include "tools/verbs/grammar_options.h"

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_parser.h"
#include "runtime/grammar/grammar_mask.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/text/token_sets.h"
#include "tools/verbs/chat_options.h"
#include "tools/verbs/cli_options.h"

namespace thermocline {

void AddGrammarOptions(CLI::App& verb, GrammarArgs* args) {
  CLI::Option* grammar =
      verb.add_option("--grammar", args->grammar,
                      "Write what this grammar has (GBNF: root ::= ...); see docs/grammars.md")
          ->type_name("TEXT");
  CLI::Option* grammar_path =
      verb.add_option("--grammar-file", args->grammar_path, "The same, from a file")
          ->type_name("FILE");
  CLI::Option* schema = verb.add_option("-j,--json-schema", args->schema,
                                        "Write JSON that this JSON schema allows; {}: any JSON")
                            ->type_name("JSON");
  CLI::Option* schema_path =
      verb.add_option("--json-schema-file", args->schema_path, "Also written -jf. From a file")
          ->type_name("FILE");
  const std::vector<CLI::Option*> all = {grammar, grammar_path, schema, schema_path};
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) all[i]->excludes(all[j]);
  }
}

std::string ReadGrammar(const GrammarArgs& args) {
  if (args.grammar) return *args.grammar;
  if (args.grammar_path) return ReadTextFile(*args.grammar_path, kMaxGrammarBytes);
  if (!args.given()) return "";
  const std::string name = args.schema_path ? *args.schema_path : "the JSON schema";
  const std::string text =
      args.schema ? *args.schema : ReadTextFile(*args.schema_path, kMaxPromptBytes);
  return JsonSchemaGbnf(ParseJson(text, name));
}

std::unique_ptr<TokenMask> MakeTextMask(const std::string& gbnf, const Tokenizer& tokenizer,
                                        const std::vector<int32_t>& ends) {
  if (gbnf.empty()) return nullptr;
  std::vector<int32_t> all_ends = EndTokens(tokenizer);
  all_ends.insert(all_ends.end(), ends.begin(), ends.end());
  const auto vocabulary = std::make_shared<GrammarVocabulary>(tokenizer);
  return std::make_unique<GrammarMask>(std::make_shared<CompiledGrammar>(gbnf, vocabulary),
                                       std::move(all_ends));
}

}  // namespace thermocline
