// Sizes as people write and read them: "8G", "512M", "1.5G" (binary units) and back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

// Reads digits with an optional fraction and an optional K, M, G or T (KiB, MiB, ... also
// accepted). Returns nullopt for anything else, for negative numbers and for what does not fit into
// 63 bits.
std::optional<uint64_t> ParseSize(std::string_view text);

// Writes "512 B", "3.20 MiB", "79.5 GiB".
std::string FormatBytes(uint64_t n_bytes);

}  // namespace thermocline
