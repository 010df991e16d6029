// What each layer of a decoded token takes, beside what the cost model said it would: behind
// `bench --profile`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "profiler/activations/profile_stats.h"
#include "runtime/rates/machine_rates.h"
#include "tools/pictures/html_page.h"
#include "tools/reports/pass_report.h"

namespace thermocline {

struct LayerTimes {
  struct Row {
    double attention_ms = 0;  // with norms, rotation and cache
    double ffn_ms = 0;        // with the hand-over
    double predicted_attention_ms = 0;
    double predicted_ffn_ms = 0;

    double measured_ms() const { return attention_ms + ffn_ms; }
    double predicted_ms() const { return predicted_attention_ms + predicted_ffn_ms; }
  };
  SparseMode mode = SparseMode::kDense;
  int64_t context_tokens = 0;  // that were predicted for
  int64_t n_passes = 0;        // that were measured: medians over them
  std::vector<Row> layers;
  double head_ms = 0;
  double predicted_head_ms = 0;

  // Of all layers and the head.
  double measured_ms() const;
  double predicted_ms() const;
};

// What was measured, of passes whose spans are kept, and what was to be expected of them.
// stats, rates: of the engine's model and this machine.
LayerTimes MakeLayerTimes(const Engine& engine, const PassReport& measured,
                          const ProfileStats& stats, const MachineRates& rates,
                          int64_t context_tokens);

std::string LayerTimesTable(const LayerTimes& times);
nlohmann::ordered_json LayerTimesJson(const LayerTimes& times);
void AddLayerTimes(const LayerTimes& times, HtmlPage* page);

}  // namespace thermocline
