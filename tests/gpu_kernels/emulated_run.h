// Runs kernels for tests of the emulator itself.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/emulation/control.h"
#include "runtime/core/error.h"

namespace thermocline {

// Launches and waits; what is wrong with the kernel, or "". Clears the error.
template <typename... Parameters, typename... Arguments>
std::string ReportOf(const Kernel<Parameters...>& kernel, dim3 grid, dim3 block,
                     size_t shared_bytes, Arguments... arguments) {
  std::string message;
  Stream stream;
  try {
    Launch(kernel, {.grid = grid, .block = block, .shared_bytes = shared_bytes, .stream = stream},
           arguments...);
    stream.Synchronize();
  } catch (const Error& error) {
    message = error.what();
  }
  const std::string report = emulation::TakeReport();
  // What the user reads holds the report.
  EXPECT_NE(message.find(report), std::string::npos) << message << "\nlacks: " << report;
  return message;
}

// Restores the emulator's settings when it goes.
class SettingsGuard {
 public:
  SettingsGuard() : before_(emulation::CurrentSettings()) {}
  ~SettingsGuard() { emulation::ChangeSettings(before_); }
  SettingsGuard(const SettingsGuard&) = delete;
  SettingsGuard& operator=(const SettingsGuard&) = delete;

 private:
  emulation::Settings before_;
};

}  // namespace thermocline
