// What `run` prints at its end: how long it took and what it read.
#pragma once

#include <string>

#include "runtime/engine/generate.h"

namespace thermocline {

struct RunSummary {
  double load_ms = 0;
  SamplerOptions sampling;
  Generation generation;
  bool tell_stop = false;                  // say why the text ended
  const Speculator* speculator = nullptr;  // null: nothing was drafted
};

std::string RunSummaryText(Engine& engine, const RunSummary& summary);

// What drafts brought: how many tokens were drafted and accepted, what that took, and where
// drafting was given up. Lines that begin as those of a summary do.
std::string SpeculationText(const Speculator& speculator);

// What moved between the tiers, or why nothing does; empty where nobody asked. Without a line end.
std::string AdaptText(Engine& engine);

// Returns instruction set, fingerprint and tiers, for -v.
std::string EngineDescription(const Engine& engine);

}  // namespace thermocline
