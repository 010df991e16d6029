// Threads that run a pass together. A team keeps its threads for its life, and a pass wakes them
// once. Inside a pass every thread is a lane; lanes split each op and meet at barriers. Who waits
// spins for some microseconds, then sleeps (futex), so that a machine shared with other processes
// is not burnt up and an idle team costs nothing.
//
// These are threads of our own and not an OpenMP region: an OpenMP runtime's threads spin for
// milliseconds between regions, which is what makes decoding collapse where other processes want
// the same cores.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/timing/pass_timer.h"

namespace thermocline {

// Thrown into lanes that wait for a lane that failed; ThreadTeam::Run reports the first real error.
class TeamAborted : public std::exception {
 public:
  const char* what() const noexcept override { return "another lane of the team failed"; }
};

// A counter whose changes lanes wait for. It is the building block of barriers and of the hand-over
// between tiers.
class Signal {
 public:
  explicit Signal(const std::atomic<bool>* aborted) : aborted_(aborted) {}
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  bool aborted() const { return aborted_->load(std::memory_order_acquire); }
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

// Lanes that work on the same ops: their barrier, and how much of the op at hand each has taken.
class LaneGroup {
 public:
  LaneGroup(int n_lanes, const std::atomic<bool>* aborted);

  // Returns when all lanes of the group are here.
  void Wait(int rank);
  // Takes one of the n_chunks chunks of `owner`'s share for lane `rank`. The owner takes its chunks
  // in order, others take them from the end. Returns the chunk, or -1 when all are taken or the
  // team was aborted. It starts anew after every Wait.
  int64_t TakeChunk(int rank, int owner, int64_t n_chunks);

  void Wake() { generation_.Advance(); }
  void Reset();

 private:
  // Chunks taken from a lane's share: from the front in the low half, from the back in the high
  // half. Several counts take turns (a power of two, since the barrier's count wraps): while one is
  // in use, its owner clears the next.
  static constexpr uint32_t kPhases = 4;
  struct alignas(64) Taken {
    std::atomic<uint64_t> of_phase[kPhases];
  };

  const int n_lanes_;
  alignas(64) std::atomic<int> arrived_{0};
  Signal generation_;
  std::vector<Taken> taken_;
};

// One thread's place in a group of threads that work on the same op.
struct Lane {
  int rank = 0;
  int size = 1;
  LaneGroup* group = nullptr;   // null for a group of one
  PassMarker* timer = nullptr;  // null: not timed

  void Sync() const {
    if (group != nullptr) group->Wait(rank);
  }
  // Syncs, and marks the part that ends with it.
  void Sync(PassPart part) const {
    Sync();
    Mark(part);
  }
  void Mark(PassPart part) const {
    if (timer != nullptr) timer->Mark(part);
  }
  // Sets the layer that marks from here on belong to.
  void MarkLayer(int64_t layer) const {
    if (timer != nullptr) timer->set_layer(layer);
  }
  // Returns this lane's part of [0, n), cut at multiples of `unit`. Parts differ by at most one
  // unit.
  std::pair<int64_t, int64_t> Split(int64_t n, int64_t unit = 1) const {
    return PartOf(rank, n, unit);
  }
  // Runs body(begin, end) over [0, n) in chunks of at most `grain`, cut at multiples of `unit`
  // (which divides grain). A lane works through its own part in order; when it is done, it takes
  // chunks that slower lanes have not begun, from their end. Every element is in one chunk, which
  // one lane runs. At most one Share stands between two Syncs; it does not wait for the others at
  // its end.
  template <typename Body>
  void Share(int64_t n, int64_t unit, int64_t grain, const Body& body) const {
    if (group == nullptr) {
      if (n > 0) body(int64_t{0}, n);
      return;
    }
    for (int i = 0; i < size; ++i) {
      const int owner = (rank + i) % size;
      const auto [begin, end] = PartOf(owner, n, unit);
      const int64_t n_chunks = (end - begin + grain - 1) / grain;
      for (int64_t c = group->TakeChunk(rank, owner, n_chunks); c >= 0;
           c = group->TakeChunk(rank, owner, n_chunks)) {
        const int64_t first = begin + c * grain;
        body(first, first + grain < end ? first + grain : end);
      }
    }
  }

 private:
  std::pair<int64_t, int64_t> PartOf(int part, int64_t n, int64_t unit) const {
    const int64_t units = (n + unit - 1) / unit;
    const int64_t begin = units * part / size * unit;
    const int64_t end = units * (part + 1) / size * unit;
    return {begin < n ? begin : n, end < n ? end : n};
  }
};

class ThreadTeam {
 public:
  // Starts n_threads - 1 threads; the caller of Run is the first. cpus: for each of the n_threads
  // threads the CPUs it keeps to, the caller while it is in Run and not after. Where it is empty,
  // they go where the system puts them.
  explicit ThreadTeam(int n_threads, std::vector<std::vector<int>> cpus = {});
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  int n_threads() const { return n_threads_; }

  // Makes a group of `size` lanes, which lives as long as the team. Returns null for a group of
  // one.
  LaneGroup* MakeGroup(int size);
  Signal* MakeSignal();

  // Runs body(thread) once on each of the n_threads threads. When one throws, the others are woken
  // from their barriers and the first error is rethrown here, after all have left. There is one Run
  // at a time.
  void Run(const std::function<void(int)>& body);

 private:
  void Serve(int thread);
  void Stop();
  void Guarded(int thread);
  void Abort(std::exception_ptr error);

  int n_threads_;
  std::vector<std::vector<int>> cpus_;
  std::atomic<bool> never_{false};  // never set: start_ and done_ are not aborted
  std::atomic<bool> aborted_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<std::unique_ptr<LaneGroup>> groups_;
  std::vector<std::unique_ptr<Signal>> signals_;
  const std::function<void(int)>* body_ = nullptr;  // null: the threads are to end
  Signal start_{&never_};
  Signal done_{&never_};
  alignas(64) std::atomic<int> running_{0};
  std::vector<std::thread> threads_;
};

}  // namespace thermocline
