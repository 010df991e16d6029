#pragma once

#include <cstdint>

namespace thermocline {

// Which elements of a head turn together (rotary position embedding, arXiv:2104.09864).
enum class RopePairing : uint8_t {
  kAdjacent,  // (x[2i], x[2i+1]): GGUF's llama
  kHalves,    // (x[i], x[i + rot_dim/2]): NeoX
};

}  // namespace thermocline
