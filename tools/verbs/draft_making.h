// How `profile` makes drafts of the hot neurons.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "profiler/activations/profile_run.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/engine/engine.h"

namespace thermocline {

struct DraftMakingArgs {
  std::string path;  // empty: none is made
  double share = 0.5;
  std::string stand_in = "auto";
  std::string ranking = "auto";
  int64_t tokens = 6144;
  int64_t heldout_tokens = 2048;
};

// Adds --draft and what belongs to it.
void AddDraftMaking(CLI::App& verb, DraftMakingArgs* args);
// Throws where the options cannot work, before the long work.
void CheckDraftMaking(const DraftMakingArgs& args, std::vector<std::string> inputs);
// Makes and writes the draft; returns what was tried and chosen, as text. Empty: none was wanted.
std::string MakeDraft(const DraftMakingArgs& args, const EngineOptions& engine,
                      const ProfileOptions& profile, const ProfileStats& stats);

}  // namespace thermocline
