#pragma once

#include <cstdint>

namespace thermocline {

// A token and its logit.
struct TokenLogit {
  int32_t id;
  float logit;
};

}  // namespace thermocline
