#include "gpu_kernels/emulation/control.h"

#include <atomic>
#include <mutex>
#include <utility>

namespace thermocline::emulation {
namespace {

struct State {
  std::mutex mutex;
  Settings settings;
  std::string report;
  std::atomic<bool> has_report = false;
};

State& TheState() {
  static State state;
  return state;
}

}  // namespace

Settings CurrentSettings() {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  return state.settings;
}

void ChangeSettings(const Settings& settings) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  state.settings = settings;
}

std::string TakeReport() {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  state.has_report = false;
  return std::exchange(state.report, "");
}

std::string PeekReport() {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  return state.report;
}

void SetReport(const std::string& report) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  if (state.has_report) return;
  state.report = report;
  state.has_report = true;
}

bool HasReport() { return TheState().has_report; }

}  // namespace thermocline::emulation
