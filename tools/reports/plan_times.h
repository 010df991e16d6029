// What a token is expected to take, before anything is loaded: by the rates that this machine keeps
// and by what the placement was made for.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "runtime/engine/opened_model.h"

namespace thermocline {

struct PlanTimes {
  // Of a token in the middle of the context in which every neuron fires; nothing where no rates are
  // kept, or where they lack what the model needs.
  std::optional<double> dense_ms;
  std::string rates_path;
  std::optional<PlacementPrediction> placed;
};

PlanTimes TimesOfPlan(const OpenedModel& model);

// Lines behind the plan; empty where nothing is known.
std::string PlanTimesText(const PlanTimes& times);
nlohmann::ordered_json PlanTimesJson(const PlanTimes& times);

}  // namespace thermocline
