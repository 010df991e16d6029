// Threads that run a step together. One OpenMP parallel region per step of the model; inside it
// every thread is a lane, lanes split each operation and meet at barriers. A barrier spins for some
// microseconds, then sleeps (futex), so that a machine shared with other processes is not burnt up.
#pragma once

#include <omp.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace thermocline {

// Thrown into lanes that wait for a lane that failed; ThreadTeam::Run reports the first real error.
class TeamAborted : public std::exception {
 public:
  const char* what() const noexcept override { return "another lane of the team failed"; }
};

// Counts up; lanes wait for a value. The building block of barriers and of the hand-over between
// tiers.
class Signal {
 public:
  explicit Signal(const std::atomic<bool>* aborted) : aborted_(aborted) {}
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  void Advance() {
    value_.fetch_add(1, std::memory_order_acq_rel);
    value_.notify_all();
  }
  // Returns when the value is no longer `old`. Throws TeamAborted when the team was aborted.
  void AwaitChange(uint32_t old) const;

 private:
  alignas(64) std::atomic<uint32_t> value_{0};
  const std::atomic<bool>* aborted_;
};

class Barrier {
 public:
  Barrier(int n_lanes, const std::atomic<bool>* aborted)
      : n_lanes_(n_lanes), generation_(aborted) {}
  void Wait();
  void Wake() { generation_.Advance(); }
  void Reset() { arrived_.store(0, std::memory_order_relaxed); }

 private:
  const int n_lanes_;
  alignas(64) std::atomic<int> arrived_{0};
  Signal generation_;
};

// One thread's place in a group of threads that work on the same operation.
struct Lane {
  int rank = 0;
  int size = 1;
  Barrier* barrier = nullptr;  // null for a group of one

  void Sync() const {
    if (barrier != nullptr) barrier->Wait();
  }
  // This lane's part of [0, n), cut at multiples of `unit`. Parts differ by at most one unit.
  std::pair<int64_t, int64_t> Split(int64_t n, int64_t unit = 1) const {
    const int64_t units = (n + unit - 1) / unit;
    const int64_t begin = units * rank / size * unit;
    const int64_t end = units * (rank + 1) / size * unit;
    return {begin < n ? begin : n, end < n ? end : n};
  }
};

class ThreadTeam {
 public:
  explicit ThreadTeam(int n_threads);
  int n_threads() const { return n_threads_; }

  // A group of `size` lanes, with its barrier; lives as long as the team.
  Barrier* MakeBarrier(int size);
  Signal* MakeSignal();

  // Runs body(thread) once on each of the n_threads threads. When one throws, the others are woken
  // from their barriers and the first error is rethrown here, after all have left.
  void Run(const std::function<void(int)>& body);

 private:
  void Guarded(const std::function<void(int)>& body, int thread);
  void Abort(std::exception_ptr error);

  int n_threads_;
  std::atomic<bool> aborted_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<std::unique_ptr<Barrier>> barriers_;
  std::vector<std::unique_ptr<Signal>> signals_;
};

// Cores this process may use, counted as physical ones where the system says (SMT siblings once).
int DefaultThreadCount();

}  // namespace thermocline
