// A verb called as the command line calls it, inside the test's own process.
#pragma once

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace thermocline {

// Returns the standard output of `thermocline ARGS`, with the verbs that `add_verbs` adds.
// Exceptions go through.
inline std::string CallVerb(void (*add_verbs)(CLI::App& app), std::vector<std::string> args) {
  CLI::App app("test", "thermocline");
  add_verbs(app);
  std::reverse(args.begin(), args.end());
  testing::internal::CaptureStdout();
  try {
    app.parse(std::move(args));
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  return testing::internal::GetCapturedStdout();
}

// Returns the message of the usage error, "" where there is none.
inline std::string VerbUsageError(void (*add_verbs)(CLI::App& app),
                                  const std::vector<std::string>& args) {
  try {
    CallVerb(add_verbs, args);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "";
}

}  // namespace thermocline
