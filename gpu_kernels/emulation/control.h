// How tests steer the emulator. Settings hold from the next launch or allocation on.
#pragma once

#include <cstdint>
#include <string>

namespace thermocline::emulation {

// The order in which the threads of a block run between barriers. A kernel without races gives the
// same result in each. kMixed takes turns: ascending, descending, shuffled with the launch's number
// as seed.
enum class ThreadOrder { kMixed, kAscending, kDescending, kShuffled };

struct Settings {
  ThreadOrder order = ThreadOrder::kMixed;
  uint32_t seed = 0;  // the seed of kShuffled
  // A kernel that waits in __nanosleep() is given up after this long.
  double watchdog_ms = 60'000;
  // What the emulated device holds.
  uint64_t device_bytes = uint64_t{8} << 30;
  int n_devices = 1;  // or 0: a machine without one
  // Whether memory is closed to the host by a protection key, where the processor has keys.
  bool protection_keys = true;
};

Settings CurrentSettings();
void ChangeSettings(const Settings& settings);

// What the first kernel that failed did wrong, or "". Every CUDA call fails from then on, as after
// an error on hardware, until TakeReport() clears it.
std::string TakeReport();
std::string PeekReport();

// For the emulator itself: records a failure, unless there is one already.
void SetReport(const std::string& report);
bool HasReport();

}  // namespace thermocline::emulation
