// Options that several verbs share, so that one flag means one thing everywhere.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {

// The largest number of tokens that an option takes.
inline constexpr int64_t kMaxTokensFlag = int64_t{1} << 26;
// The longest text that is read whole; and the longest prompt, which has room for any context there
// is.
inline constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
inline constexpr uint64_t kMaxPromptBytes = uint64_t{16} << 20;

// Adds a verb: `summary` is its line in the list of verbs and the start of its own --help,
// `details` the end of its --help (what it reads and writes, an example). The exit codes are added
// to it.
CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& summary,
                  const std::string& details);

// Adds an option that takes a size ("8G", "512M", "1.5G"; a plain number is bytes) into *n_bytes.
// Anything else is a usage error. `n_bytes` must outlive the parsing.
CLI::Option* AddSizeOption(CLI::App& verb, const std::string& flags, uint64_t* n_bytes,
                           const std::string& help);

// Adds an option that takes such a size, or "auto", which sets *automatic.
CLI::Option* AddSizeOrAutoOption(CLI::App& verb, const std::string& flags, uint64_t* n_bytes,
                                 bool* automatic, const std::string& help);

// Adds an option that takes a share ("0.1" or "10%", from 0 to 1) into *share, which must outlive
// the parsing.
CLI::Option* AddShareOption(CLI::App& verb, const std::string& flags, double* share,
                            const std::string& help);

// Adds -m and --placement. `options` must outlive the parsing; so in all that follow.
void AddModelOptions(CLI::App& verb, EngineOptions* options);
// Adds --sparse, -t, --pin, -c, -b, -ngl, --fast-tier: how the engine runs.
void AddEngineOptions(CLI::App& verb, EngineOptions* options);
// Adds --adapt. usual: what it is where it is not given.
void AddAdaptOption(CLI::App& verb, Adapt usual, EngineOptions* options);
// Adds --lora, for verbs that run the model as a user would.
void AddLoraOption(CLI::App& verb, EngineOptions* options);
// Adds -t alone, for verbs that only count or convert. 0: one per physical core.
CLI::Option* AddThreadsOption(CLI::App& verb, int* n_threads);
// Adds --pin alone, for verbs that run the engine in a way of their own.
void AddPinOption(CLI::App& verb, EngineOptions* options);

// Adds --report, which takes the path of a page to write.
CLI::Option* AddReportOption(CLI::App& verb, std::string* path, const std::string& shows);

// Adds --trace.
void AddTraceOption(CLI::App& verb, std::optional<std::string>* path);

// Makes what the user typed ready for CLI11, which takes only single letters behind one dash: the
// spellings -ngl and -sys of llama.cpp become --gpu-layers and --system.
std::vector<std::string> NormaliseArguments(int argc, char** argv);

// Throws a usage error (exit code 2).
[[noreturn]] void FailUsage(const std::string& verb, const std::string& message);

// Returns the text of a file, or of standard input for "-". Throws Error when it cannot be read or
// is longer than max_bytes (a device need not end), Interrupted when a signal asks to stop.
std::string ReadTextFile(const std::string& path, uint64_t max_bytes = kMaxTextBytes);

// Writes to standard output and flushes. Throws Error when it takes no more (disk full, closed
// pipe).
void WriteOutput(std::string_view text);

}  // namespace thermocline
