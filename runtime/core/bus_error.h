// What happens when a mapped file is cut short, or its disk fails, while it is read: the read gets
// SIGBUS, nowhere to return to, and the program ends with one line that names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace thermocline {

// Handles SIGBUS. Within a mapping that was noted, it ends the program with one line on stderr and
// exit code 1. Elsewhere the signal ends the program as before.
void InstallBusErrorHandler();

// MappedFile calls these when it maps a file and before it unmaps it.
void NoteMapping(const std::byte* data, uint64_t n_bytes, const std::string& path);
void ForgetMapping(const std::byte* data);

}  // namespace thermocline
