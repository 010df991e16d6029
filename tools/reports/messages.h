// The library's messages as the command line prints them: each with the flags and commands for what
// it speaks of, in parentheses at its end.
//
//   the context is full: expected at most 64 tokens, found 70; shorten the text or raise the
//   context size, to at most 4096 (-c)
#pragma once

#include <string>
#include <string_view>

#include "runtime/core/error.h"

namespace thermocline {

// "-c". `verb`: the one that runs; a few settings are another flag there than elsewhere.
std::string_view FlagOf(Setting setting, std::string_view verb = "");
// The verb that does a job: "profile".
std::string_view VerbOf(Job job);

std::string ErrorText(const Error& error, std::string_view verb = "");
// Empty where the note is.
std::string NoteText(const Note& note, std::string_view verb = "");

// Says that times are not this machine's own (TierOptions::slow_tier_bytes_per_s). Without a line
// end.
std::string SlowTierNote(double bytes_per_s);

}  // namespace thermocline
