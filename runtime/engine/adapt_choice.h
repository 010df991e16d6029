// Whether a run moves neurons between its tiers, and how eagerly.
#pragma once

#include <string>

#include "runtime/moves/neuron_mover.h"

namespace thermocline {

class OpenedModel;

struct AdaptChoice {
  bool moves = false;
  std::string why_not;  // empty where it moves, or was not asked to
};

// Throws Error where neurons are to move and cannot.
AdaptChoice ChooseAdapt(const OpenedModel& model);

// How the run's policy is set: by what a swap costs and brings with this placement, and by what a
// layer's turn costs beside a token. REQUIRES: a placement.
MoverOptions MoverOptionsOf(const OpenedModel& model);

}  // namespace thermocline
