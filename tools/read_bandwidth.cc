#include "tools/read_bandwidth.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"

namespace thermocline {
namespace {

constexpr uint64_t kSegmentBytes = 48ULL << 20;
constexpr int kPasses = 5;

// CPUs that the process may use, as it was started.
const cpu_set_t& AllowedCpus() {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return set;
  }();
  return allowed;
}

// The n-th allowed CPU, or all of them when there are not so many.
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

}  // namespace

PinnedTeam::PinnedTeam(int n_threads) : n_threads_(n_threads) {
  (void)AllowedCpus();
#pragma omp parallel num_threads(n_threads)
  {
    const cpu_set_t cpu = NthAllowedCpu(omp_get_thread_num());
    sched_setaffinity(0, sizeof(cpu), &cpu);
  }
}

PinnedTeam::~PinnedTeam() {
#pragma omp parallel num_threads(n_threads_)
  sched_setaffinity(0, sizeof(cpu_set_t), &AllowedCpus());
}

double TimeOnTeam(int n_threads, const std::function<void(int thread, int n_threads)>& work) {
  double start = 0.0;
  double end = 0.0;
#pragma omp parallel num_threads(n_threads) default(none) shared(start, end, work, n_threads)
  {
#pragma omp barrier
#pragma omp master
    start = omp_get_wtime();
    work(omp_get_thread_num(), n_threads);
#pragma omp barrier
#pragma omp master
    end = omp_get_wtime();
  }
  return end - start;
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
