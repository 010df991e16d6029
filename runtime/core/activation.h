// The function between an FFN's gate and its product with up.
#pragma once

#include <cstdint>

namespace thermocline {

enum class Activation : uint8_t { kSilu, kRelu, kReluSqr };

}  // namespace thermocline
