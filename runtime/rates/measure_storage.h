// How fast files are read at random places, past the page cache.
#pragma once

#include <string>

#include "runtime/rates/machine_rates.h"

namespace thermocline {

// Times reads of a file that it makes in `folder` and removes at once. Leaves *host as it is where
// the folder's file system has no such reads (tmpfs), or no room.
void MeasureStorage(const std::string& folder, HostRates* host);

}  // namespace thermocline
