// Tests that run many times over do less in each run: whole models with every instruction set in
// turn, and the trees with sanitizers (docs/testing.md says what is left out there).
#pragma once

#include <cstdlib>

namespace thermocline {

inline bool ShortTests() { return std::getenv("THERMOCLINE_SHORT_TESTS") != nullptr; }

// And everything in tools/test --everything.
inline bool WholeTests() { return std::getenv("THERMOCLINE_WHOLE_TESTS") != nullptr; }

}  // namespace thermocline
