// Checks where output may go: not onto a file that is read, not where nothing can be written.
#pragma once

#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {

// Returns the files that an engine with these options reads: the model (every file of a split one),
// the placement, the predictor.
std::vector<std::string> InputFiles(const EngineOptions& options);

// Throws Error when `path` is one of `inputs`, by this or another name. Empty inputs do not count,
// nor does a `path` that is no regular file: writing to a terminal does not change what is read
// from it.
void CheckNotRead(const std::string& path, const std::vector<std::string>& inputs);

// Does what CheckNotRead does, and throws Error when `path` cannot be written.
void CheckOutputPath(const std::string& path, const std::vector<std::string>& inputs);
// Does what CheckOutputPath does, and throws Error when `path` could not be read back, for verbs
// that do.
void CheckRereadOutputPath(const std::string& path, const std::vector<std::string>& inputs);

}  // namespace thermocline
