#include "runtime/team.h"

#include <sched.h>

#include <fstream>
#include <set>
#include <string>
#include <thread>

// libgomp is not instrumented for ThreadSanitizer, which would then report every access on both
// sides of a fork or join. Under that tool a team is made of std::threads, which it understands;
// all that the lanes do inside, barriers and hand-overs included, is the same code.
#if defined(__SANITIZE_THREAD__)
#define THERMOCLINE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THERMOCLINE_TSAN 1
#endif
#endif

namespace thermocline {
namespace {

constexpr int kSpins = 4000;  // pauses, about 20-50 us: longer than a step's imbalance, shorter
                              // than a scheduler's time slice

void ForkJoin(int n_threads, const std::function<void(int)>& body) {
#ifdef THERMOCLINE_TSAN
  std::vector<std::thread> threads;
  for (int i = 1; i < n_threads; ++i) threads.emplace_back(body, i);
  body(0);
  for (std::thread& thread : threads) thread.join();
#else
#pragma omp parallel num_threads(n_threads)
  body(omp_get_thread_num());
#endif
}

}  // namespace

void Signal::AwaitChange(uint32_t old) const {
  for (int i = 0; i < kSpins && value() == old; ++i) __builtin_ia32_pause();
  while (value() == old) {
    if (aborted_->load(std::memory_order_acquire)) throw TeamAborted();
    value_.wait(old, std::memory_order_acquire);
  }
  if (aborted_->load(std::memory_order_acquire)) throw TeamAborted();
}

void Barrier::Wait() {
  const uint32_t generation = generation_.value();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_lanes_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.Advance();
  } else {
    generation_.AwaitChange(generation);
  }
}

ThreadTeam::ThreadTeam(int n_threads) : n_threads_(n_threads) {}

Barrier* ThreadTeam::MakeBarrier(int size) {
  if (size <= 1) return nullptr;
  barriers_.push_back(std::make_unique<Barrier>(size, &aborted_));
  return barriers_.back().get();
}

Signal* ThreadTeam::MakeSignal() {
  signals_.push_back(std::make_unique<Signal>(&aborted_));
  return signals_.back().get();
}

void ThreadTeam::Run(const std::function<void(int)>& body) {
  aborted_.store(false);
  error_ = nullptr;
  ForkJoin(n_threads_, [&](int thread) {
    // A library called inside (oneDNN) must stay on the lane's own thread, also in a team of one.
    omp_set_num_threads(1);
    Guarded(body, thread);
  });
  if (error_ == nullptr) return;
  for (const auto& barrier : barriers_) barrier->Reset();
  std::rethrow_exception(error_);
}

void ThreadTeam::Guarded(const std::function<void(int)>& body, int thread) {
  try {
    body(thread);
  } catch (const TeamAborted&) {  // the lane that failed has reported
  } catch (...) {
    Abort(std::current_exception());
  }
}

void ThreadTeam::Abort(std::exception_ptr error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (error_ == nullptr) error_ = std::move(error);
  }
  aborted_.store(true, std::memory_order_release);
  for (const auto& barrier : barriers_) barrier->Wake();
  for (const auto& signal : signals_) signal->Advance();
}

int DefaultThreadCount() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::ifstream siblings(topology + "thread_siblings_list");
    std::string line;
    if (!std::getline(siblings, line)) line = std::to_string(cpu);
    cores.insert(line);
  }
  return cores.empty() ? 1 : static_cast<int>(cores.size());
}

}  // namespace thermocline
