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

// Whether a run with a placement that is still to be made may move neurons (Adapt::kAuto).
bool MayMoveOncePlaced(const OpenedModel& model);

// How the policy of a run with this placement is set: by what a swap costs and brings, and by what
// a layer's turn costs beside a token.
MoverOptions MoverOptionsOf(const OpenedModel& model, const Placement& placement);

}  // namespace thermocline
