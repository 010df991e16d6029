// Every verb of the program, for tests that look at all of them.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/verbs/verbs.h"

namespace thermocline {

inline void AddAllVerbs(CLI::App& app) {
  for (const auto add :
       {AddRunVerb, AddProfileVerb, AddPlaceVerb, AddPredictorVerb, AddBenchVerb, AddPerplexityVerb,
        AddEvalVerb, AddInspectVerb, AddConvertVerb, AddQuantizeVerb, AddPackVerb, AddSynthVerb,
        AddTokenizeVerb, AddRenderVerb, AddCalibrateVerb, AddServeVerb}) {
    add(app);
  }
}

}  // namespace thermocline
