// Serves a model until the process is asked to end.
#pragma once

#include <functional>
#include <string>

#include "tools/serve/serve_options.h"

namespace thermocline {

// Listens at once, loads the model, serves, and on the first signal to end lets what runs go out
// before it returns. say: lines for the user. Throws Error where it cannot listen or load.
void Serve(const ServeOptions& options, const std::function<void(const std::string&)>& say);

}  // namespace thermocline
