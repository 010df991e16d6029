// A load to serve: who asks when, with how long a prompt, and for how many tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thermocline {

struct ServedRequest {
  double arrival_ms = 0;  // from the beginning
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;
  // The prompt begins with so many tokens of a text that all of the same group begin with.
  int64_t shared_tokens = 0;
  std::string group = {};
};

// One object a line: {"arrival_ms": 0, "prompt_tokens": 256, "max_tokens": 128}, and where prompts
// share a beginning "shared_tokens": 200 and "group": "a name". Empty lines are left out. Returns
// the requests in the order of their arrivals. Throws Error, with the line, for anything else.
std::vector<ServedRequest> ParseServeTrace(const std::string& text, const std::string& path);

struct LoadShape {
  int64_t n_requests = 20;
  int64_t prompt_tokens = 32;
  int64_t max_tokens = 64;
  int64_t shared_tokens = 0;  // of each prompt, the same for all
  double requests_per_s = 0;  // on average, at random intervals (a Poisson process); 0: all at once
  uint64_t seed = 1;
};
std::vector<ServedRequest> MakeServeTrace(const LoadShape& shape);

// The prompts' tokens: random ones below vocab_size, the same for the same trace.
// REQUIRES: shared_tokens <= prompt_tokens of each.
std::vector<std::vector<int32_t>> MakeServePrompts(const std::vector<ServedRequest>& trace,
                                                   int64_t vocab_size);

}  // namespace thermocline
