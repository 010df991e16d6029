// What `run` prints at its end: how long it took and what it read.
#pragma once

#include <string>

#include "runtime/engine/generate.h"

namespace thermocline {

struct RunSummary {
  double load_ms = 0;
  SamplerOptions sampling;
  Generation generation;
  bool tell_stop = false;  // say why the text ended
};

std::string RunSummaryText(Engine& engine, const RunSummary& summary);

// What moved between the tiers, or why nothing does; empty where nobody asked. Without a line end.
std::string AdaptText(Engine& engine);

// Returns instruction set, fingerprint and tiers, for -v.
std::string EngineDescription(const Engine& engine);

}  // namespace thermocline
