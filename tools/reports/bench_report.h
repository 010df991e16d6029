// What `bench` prints: as a table, as JSON and as CSV.
#pragma once

#include <string>
#include <vector>

#include "runtime/device/stream_choice.h"
#include "tools/bench/compare_modes.h"
#include "tools/bench/parallel_decode.h"
#include "tools/bench/speculative_decode.h"
#include "tools/reports/drafting_times.h"
#include "tools/reports/layer_times.h"
#include "tools/reports/pass_report.h"
#include "tools/reports/roofline.h"

namespace thermocline {

// What `bench` found.
struct BenchReport {
  std::string model;
  std::string mode_note;
  std::string predictor;
  int n_threads = 0;
  bool two_tiers = false;
  double hot_share = 0;            // share of the FFN neurons
  std::vector<double> bandwidths;  // bytes/s, one per prompt; empty: not measured
  double requant_error = -1;
  double slow_tier_bytes_per_s = 0;  // it was held to; 0: to nothing
  std::vector<ModeResult> modes;
  std::vector<Roofline> rooflines;
  std::vector<LayerTimes> layer_times;
  std::string gpu_note;
  StreamUse stream;
  std::string adapt;                     // what moved between the tiers; empty: nothing was to
  std::vector<PassReport> steps;         // with a GPU
  std::vector<ParallelResult> parallel;  // reports of several sequences
  std::vector<SpeculationResult> speculation;
  std::vector<DraftingComparison> drafting;  // of these, where rates of the machine are known
};

std::string BenchTable(const BenchReport& report);
std::string BenchJson(const BenchReport& report);
// The modes alone.
std::string BenchCsv(const BenchReport& report);

}  // namespace thermocline
