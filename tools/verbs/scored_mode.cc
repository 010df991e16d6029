#include "tools/verbs/scored_mode.h"

#include <fmt/format.h>

#include "runtime/device/cpu/cpu_limits.h"
#include "tools/verbs/cli_options.h"

namespace thermocline {

void SettleScoredMode(const std::string& verb, const CLI::Option& sparse, const CLI::Option& batch,
                      EngineOptions* engine) {
  if (sparse.count() == 0) engine->sparse = engine->predictor.empty() ? "dense" : "predicted";
  // Thresholds cut batches, too, where they are measured; another mode of the FFN beside them does
  // not.
  const bool thresholds = engine->sparse.find(':') != std::string::npos;
  const bool combined = engine->sparse.find('+') != std::string::npos;
  if (engine->sparse == "dense" || (thresholds && !combined)) return;
  const bool predicted = engine->sparse.starts_with("predicted") || !engine->predictor.empty();
  if (batch.count() == 0) {
    engine->batch_tokens = predicted ? kListMaxTokens : kGemmMinTokens - 1;
  } else if (predicted && engine->batch_tokens > kListMaxTokens) {
    FailUsage(verb,
              fmt::format("-b is at most {} in mode predicted, as larger batches run dense; it "
                          "is {}",
                          kListMaxTokens, engine->batch_tokens));
  }
}

}  // namespace thermocline
