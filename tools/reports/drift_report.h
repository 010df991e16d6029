// How a placement covers texts one after another, as it is and where neurons move: a table, and
// what `profile --report` shows of it.
#pragma once

#include <span>
#include <string>

#include "profiler/activations/drift.h"
#include "tools/pictures/html_page.h"

namespace thermocline {

// The first text is of the kind that the placement was made from. What is lost and brought back is
// summed over the others.
std::string DriftTable(std::span<const DriftedText> texts, const MoveOptions& options);

// REQUIRES: a text.
void AddDrift(std::span<const DriftedText> texts, HtmlPage* page);

}  // namespace thermocline
