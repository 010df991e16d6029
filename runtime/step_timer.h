// Where the time of a step goes: one thread's clock, read after each part of a layer. Behind `bench
// --roofline`. The executor and the devices say which part has just ended; the part is charged with
// everything since the one before, waiting for other lanes included.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace thermocline {

enum class StepPart : uint8_t {
  kEmbed,
  kQkv,        // norm and the q, k, v projections
  kRope,       // positions and the cache append
  kAttention,  // over the cache
  kOutput,     // attention's output projection
  kNorm,       // residual and the norm before the FFN
  kPredict,    // which neurons will fire
  kGate,       // gate projection; where nothing is skipped, up as well
  kUp,         // up projection of the active neurons
  kDown,
  kMerge,  // of the tiers' parts, into the residual stream
  kHead,   // last norm and the output head
};
inline constexpr int kStepParts = 12;
inline constexpr std::array<std::string_view, kStepParts> kStepPartNames = {
    "embedding", "norm, q k v", "rope, append", "attention", "attention output",
    "norm",      "predictor",   "gate",         "up",        "down",
    "merge",     "output head"};

class StepTimer {
 public:
  void Start() { last_ = Clock::now(); }
  void Mark(StepPart part) {
    const Clock::time_point now = Clock::now();
    ns_[static_cast<size_t>(part)] +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(now - last_).count();
    last_ = now;
  }
  void Reset() { ns_.fill(0); }
  // Since Reset, over all steps.
  int64_t total_ns(StepPart part) const { return ns_[static_cast<size_t>(part)]; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_;
  std::array<int64_t, kStepParts> ns_{};
};

}  // namespace thermocline
