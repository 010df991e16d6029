// The measurement behind `bench serve --url`: a load of requests against a server, each sent when
// it arrives, on a connection of its own.
#pragma once

#include <string>
#include <vector>

#include "runtime/core/progress.h"
#include "tools/bench/serve_replay.h"
#include "tools/http/http_client.h"

namespace thermocline {

// What a server says of its model at /v1/models.
struct UrlModel {
  std::string name;
  int64_t vocab_size = 0;
};
// Throws Error where it does not say how many tokens its vocabulary has.
UrlModel AskForModel(const HttpUrl& url, const std::string& api_key);

// Sends prompts of token ids to /v1/completions, and reads the replies as streams. Times are those
// of the events that bring text. A request that is refused or breaks off counts as not served; of
// the scheduler nothing is known. Throws Interrupted on Ctrl-C.
ServeResult ReplayUrl(const HttpUrl& url, const std::string& api_key, const UrlModel& model,
                      const std::vector<ServedRequest>& trace, const ServeBounds& bounds,
                      const ProgressFn& progress);

}  // namespace thermocline
