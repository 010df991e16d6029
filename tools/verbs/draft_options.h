// Where drafts come from, as `run`, `serve` and `bench` take it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "runtime/drafts/drafting.h"

namespace thermocline {

struct DraftArgs {
  bool speculate = false;
  std::string kind;  // empty: not given
  DraftOptions options;
};

// Adds --speculate, --draft, --draft-model, --draft-extend, --draft-max, --draft-width (which is
// `width` where it is not given) and --draft-p-min. `args` must outlive the parsing.
void AddDraftOptions(CLI::App& verb, DraftArgs* args, int64_t width = 1);

// Makes of them what the verb asks for, and makes room for that in what the engine is opened with
// (n_sequences is that already). Fails as wrong usage where they contradict each other.
void SettleDraft(const std::string& verb, DraftArgs* args, EngineOptions* engine);

}  // namespace thermocline
