#include "runtime/rates/read_bandwidth.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/threads/team.h"

namespace thermocline {
namespace {

constexpr uint64_t kSegmentBytes = 48ULL << 20;
constexpr int kPasses = 5;

using Clock = std::chrono::steady_clock;

// Returns the CPUs that the process may use, as it was started.
const cpu_set_t& AllowedCpus() {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return set;
  }();
  return allowed;
}

// Returns the n-th allowed CPU, or all of them when there are not so many.
cpu_set_t NthAllowedCpu(int n) {
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &AllowedCpus()) || n-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return one;
  }
  return AllowedCpus();
}

// Teams stay alive, so that none is started while something is timed.
struct TimedTeam {
  explicit TimedTeam(int n_threads) : team(n_threads), group(team.MakeGroup(n_threads)) {}
  ThreadTeam team;
  LaneGroup* group;
};

TimedTeam& TeamOf(int n_threads) {
  static std::map<int, std::unique_ptr<TimedTeam>> teams;
  std::unique_ptr<TimedTeam>& team = teams[n_threads];
  if (team == nullptr) team = std::make_unique<TimedTeam>(n_threads);
  return *team;
}

}  // namespace

PinnedTeam::PinnedTeam(int n_threads) : n_threads_(n_threads) {
  (void)AllowedCpus();
  TeamOf(n_threads).team.Run([](int thread) {
    const cpu_set_t cpu = NthAllowedCpu(thread);
    sched_setaffinity(0, sizeof(cpu), &cpu);
  });
}

PinnedTeam::~PinnedTeam() {
  TeamOf(n_threads_).team.Run([](int) { sched_setaffinity(0, sizeof(cpu_set_t), &AllowedCpus()); });
}

double TimeOnTeam(int n_threads, const std::function<void(int thread, int n_threads)>& work) {
  TimedTeam& timed = TeamOf(n_threads);
  Clock::time_point start;
  Clock::time_point end;
  timed.team.Run([&](int thread) {
    const Lane lane{thread, n_threads, timed.group};
    lane.Sync();  // all threads are awake now
    if (thread == 0) start = Clock::now();
    work(thread, n_threads);
    lane.Sync();
    if (thread == 0) end = Clock::now();
  });
  return std::chrono::duration<double>(end - start).count();
}

double TimeStreamingRead(int n_threads, const std::byte* memory, uint64_t n_bytes) {
  const auto* first = reinterpret_cast<const uint64_t*>(memory);
  const auto words = static_cast<int64_t>(n_bytes / sizeof(uint64_t));
  const KernelTable& kernels = CpuKernels();
  std::atomic<uint64_t> sink{0};  // so that no read can be left out
  const double seconds = TimeOnTeam(n_threads, [&](int thread, int threads) {
    const int64_t begin = words * thread / threads;
    const int64_t end = words * (thread + 1) / threads;
    sink += kernels.sum_words(first + begin, end - begin);
  });
  return static_cast<double>(n_bytes) / seconds;
}

double MeasureReadBandwidth(int n_threads, uint64_t n_bytes) {
  const uint64_t segment = std::min(n_bytes, kSegmentBytes);
  AlignedBuffer buffer(n_bytes, "measuring read bandwidth");
  std::memset(buffer.data(), 1, n_bytes);  // untouched pages would all be the one page of zeros
  const PinnedTeam pinned(n_threads);
  std::vector<double> rates;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (uint64_t at = 0; at + segment <= n_bytes; at += segment) {
      rates.push_back(TimeStreamingRead(n_threads, buffer.bytes() + at, segment));
    }
  }
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

}  // namespace thermocline
