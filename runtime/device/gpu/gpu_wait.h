// How a host thread waits for the GPU: it looks for some microseconds, then gives way between
// looks.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

namespace thermocline {

// Whether reached() became true within timeout_ms. check() runs before each nap and may throw.
template <typename Reached, typename Check>
bool AwaitGpu(int64_t timeout_ms, const Reached& reached, const Check& check) {
  constexpr int kSpins = 4000;
  constexpr auto kNap = std::chrono::microseconds(20);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (int i = 0; !reached(); ++i) {
    if (i < kSpins) continue;
    check();
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kNap);
  }
  return true;
}

}  // namespace thermocline
