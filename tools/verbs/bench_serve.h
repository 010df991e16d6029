// `bench serve`: a subcommand of bench, which takes the model and how it is run from there.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "runtime/drafts/drafting.h"
#include "runtime/engine/engine_options.h"
#include "runtime/schedule/scheduler.h"
#include "tools/bench/serve_trace.h"

namespace thermocline {

struct BenchServeArgs {
  std::string trace_path;
  std::string url;  // of a server to ask; empty: a scheduler in this process
  std::string api_key;
  LoadShape shape;
  ScheduleOptions schedule;  // all but the slots
  int64_t kv_tokens = 0;     // see ContextOptions
  double ttft_bound_ms = 0;
  double gap_bound_ms = 0;
};

// Adds the subcommand; `args` must outlive the parsing.
CLI::App* AddBenchServe(CLI::App& bench, BenchServeArgs* args);

// What it takes from bench: the model, requests (--prompts), their lengths, the slots (--parallel),
// and where the results go.
struct BenchServeRun {
  EngineOptions engine;
  DraftOptions draft;
  std::string format;
  std::string report_path;
  std::string rates_path;  // of the machine; empty: those that it keeps, if any
};
void RunBenchServe(BenchServeRun run, const BenchServeArgs& args);

}  // namespace thermocline
