// What `run` takes about the grammar of what is written.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/sampling/token_mask.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

// At most one of them is given.
struct GrammarArgs {
  std::optional<std::string> grammar;
  std::optional<std::string> grammar_path;
  std::optional<std::string> schema;
  std::optional<std::string> schema_path;

  bool given() const { return grammar || grammar_path || schema || schema_path; }
};

// Adds --grammar, --grammar-file, --json-schema and --json-schema-file. `args` must outlive the
// parsing.
void AddGrammarOptions(CLI::App& verb, GrammarArgs* args);

// Returns the grammar in GBNF; empty where none is given. Throws Error for a file that cannot be
// read, and for a schema that is no JSON or cannot be kept.
std::string ReadGrammar(const GrammarArgs& args);

// Returns what holds a text to a grammar; null where that is empty. ends: the tokens that end a
// text beside the vocabulary's own. Throws Error for a text that is no grammar.
std::unique_ptr<TokenMask> MakeTextMask(const std::string& gbnf, const Tokenizer& tokenizer,
                                        const std::vector<int32_t>& ends);

}  // namespace thermocline
