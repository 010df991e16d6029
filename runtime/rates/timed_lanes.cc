#include "runtime/rates/timed_lanes.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <string>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

double Seconds(const timespec& t) {
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double ClockSeconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return Seconds(now);
}

double OwnCpuSeconds() { return ClockSeconds(CLOCK_PROCESS_CPUTIME_ID); }
double WallSeconds() { return ClockSeconds(CLOCK_MONOTONIC); }

// Processor seconds that others have used on this machine, and that its host withheld from it. 0
// where the system does not say.
double OthersBusySeconds() {
  std::ifstream stat("/proc/stat");
  std::string cpu;
  double user = 0;
  double nice = 0;
  double system = 0;
  double idle = 0;
  double io_wait = 0;
  double irq = 0;
  double soft_irq = 0;
  double steal = 0;
  if (!(stat >> cpu >> user >> nice >> system >> idle >> io_wait >> irq >> soft_irq >> steal)) {
    return 0;
  }
  const double ticks = user + nice + system + irq + soft_irq + steal;
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK)) - OwnCpuSeconds();
}

}  // namespace

NoiseMeter::NoiseMeter() : busy_at_start_s_(OthersBusySeconds()), wall_at_start_s_(WallSeconds()) {}

double NoiseMeter::Typical(std::vector<double> seconds) {
  CHECK(!seconds.empty());
  std::ranges::sort(seconds);
  const size_t last = seconds.size() - 1;
  spreads_.push_back(seconds[last - last / 10] / std::max(seconds[last / 10], 1e-12));
  return seconds[last / 4];
}

void NoiseMeter::AddStretch(double cpu_seconds, double wall_seconds) {
  cpu_seconds_ += cpu_seconds;
  wall_seconds_ += wall_seconds;
}

RatesNoise NoiseMeter::Result() const {
  RatesNoise noise;
  if (wall_seconds_ > 0) noise.cpu_share = std::min(1.0, cpu_seconds_ / wall_seconds_);
  const double n_cpus = std::max(1.0, static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN)));
  const double wall = std::max(1e-3, WallSeconds() - wall_at_start_s_);
  noise.others_share =
      std::clamp((OthersBusySeconds() - busy_at_start_s_) / wall / n_cpus, 0.0, 1.0);
  std::vector<double> spreads = spreads_;
  if (spreads.empty()) return noise;
  std::ranges::sort(spreads);
  noise.spread = spreads[spreads.size() / 2];
  return noise;
}

TimedLanes::TimedLanes(int n_threads, NoiseMeter* noise)
    : team_(n_threads, CoresToPin(Pinning::kAuto, n_threads, ThreadCpus())),
      group_(team_.MakeGroup(n_threads)),
      noise_(noise) {}

double TimedLanes::Seconds(const std::function<void(const Lane&)>& body) {
  ThrowIfInterrupted();
  std::chrono::steady_clock::time_point start;
  std::chrono::steady_clock::time_point end;
  std::vector<double> cpu(static_cast<size_t>(team_.n_threads()));
  team_.Run([&](int thread) {
    const Lane lane{thread, team_.n_threads(), group_};
    lane.Sync();  // all are awake now
    const double cpu_before = ClockSeconds(CLOCK_THREAD_CPUTIME_ID);
    if (thread == 0) start = std::chrono::steady_clock::now();
    body(lane);
    lane.Sync();
    if (thread == 0) end = std::chrono::steady_clock::now();
    cpu[static_cast<size_t>(thread)] = ClockSeconds(CLOCK_THREAD_CPUTIME_ID) - cpu_before;
  });
  const double seconds = std::chrono::duration<double>(end - start).count();
  for (const double spent : cpu) noise_->AddStretch(std::min(spent, seconds), seconds);
  return seconds;
}

double TimedLanes::TypicalSeconds(int n_times, const std::function<void()>& before,
                                  const std::function<void(const Lane&)>& body) {
  std::vector<double> seconds;
  for (int i = 0; i < n_times; ++i) {
    before();
    seconds.push_back(Seconds(body));
  }
  return noise_->Typical(std::move(seconds));
}

double TimedLanes::EmptyRunSeconds(int n_times) {
  const double start = WallSeconds();
  for (int i = 0; i < n_times; ++i) team_.Run([](int) {});
  return (WallSeconds() - start) / n_times;
}

}  // namespace thermocline
