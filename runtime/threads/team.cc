#include "runtime/threads/team.h"

#include <omp.h>

#include <optional>
#include <span>
#include <string>
#include <system_error>

#include "runtime/core/error.h"
#include "runtime/core/held_signals.h"
#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

constexpr int kSpins = 4000;  // pauses, about 20-50 us: longer than an op's imbalance, shorter
                              // than a scheduler's time slice

// Keeps the calling thread to some CPUs, and puts it back where it was at the end.
class PinnedHere {
 public:
  explicit PinnedHere(std::span<const int> cpus) : before_(ThreadCpus()) { SetThreadCpus(cpus); }
  ~PinnedHere() { SetThreadCpus(before_); }
  PinnedHere(const PinnedHere&) = delete;
  PinnedHere& operator=(const PinnedHere&) = delete;

 private:
  std::vector<int> before_;
};

}  // namespace

void Signal::AwaitChange(uint32_t old) const {
  for (int i = 0; i < kSpins && value() == old; ++i) __builtin_ia32_pause();
  while (value() == old) {
    if (aborted()) throw TeamAborted();
    value_.wait(old, std::memory_order_acquire);
  }
  if (aborted()) throw TeamAborted();
}

LaneGroup::LaneGroup(int n_lanes, const std::atomic<bool>* aborted)
    : n_lanes_(n_lanes), generation_(aborted), taken_(static_cast<size_t>(n_lanes)) {}

void LaneGroup::Wait(int rank) {
  const uint32_t generation = generation_.value();
  taken_[static_cast<size_t>(rank)].of_phase[(generation + 1) % kPhases].store(
      0, std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_lanes_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.Advance();
  } else {
    generation_.AwaitChange(generation);
  }
}

int64_t LaneGroup::TakeChunk(int rank, int owner, int64_t n_chunks) {
  const uint32_t generation = generation_.value();
  // An abort moves the generation on while lanes are inside an operation: a count that starts anew
  // there would hand out chunks that others are still working on.
  if (generation_.aborted()) return -1;
  std::atomic<uint64_t>& taken = taken_[static_cast<size_t>(owner)].of_phase[generation % kPhases];
  constexpr uint64_t kFromBack = uint64_t{1} << 32;
  const uint64_t before = taken.fetch_add(rank == owner ? 1 : kFromBack, std::memory_order_relaxed);
  const auto front = static_cast<int64_t>(before % kFromBack);
  const auto back = static_cast<int64_t>(before / kFromBack);
  if (front + back >= n_chunks) return -1;
  return rank == owner ? front : n_chunks - 1 - back;
}

void LaneGroup::Reset() {
  arrived_.store(0, std::memory_order_relaxed);
  for (Taken& taken : taken_) {
    for (auto& of_phase : taken.of_phase) of_phase.store(0, std::memory_order_relaxed);
  }
}

ThreadTeam::ThreadTeam(int n_threads, std::vector<std::vector<int>> cpus)
    : n_threads_(n_threads), cpus_(std::move(cpus)) {
  CHECK(n_threads >= 1);
  CHECK(cpus_.empty() || cpus_.size() == static_cast<size_t>(n_threads));
  // The threads inherit it: signals (Ctrl-C) are for the thread that the program reads and writes
  // on.
  const HeldSignals held;
  try {
    for (int i = 1; i < n_threads; ++i) threads_.emplace_back([this, i] { Serve(i); });
  } catch (const std::system_error& error) {
    Stop();
    throw Error({.what = "threads cannot be started",
                 .expected = std::to_string(n_threads) + " threads",
                 .found = std::to_string(threads_.size() + 1) + " (" + error.what() + ")",
                 .hint = "ask for fewer threads",
                 .settings = {{Setting::kThreads}}});
  }
}

ThreadTeam::~ThreadTeam() { Stop(); }

void ThreadTeam::Stop() {
  body_ = nullptr;
  start_.Advance();
  for (std::thread& thread : threads_) thread.join();
}

LaneGroup* ThreadTeam::MakeGroup(int size) {
  if (size <= 1) return nullptr;
  groups_.push_back(std::make_unique<LaneGroup>(size, &aborted_));
  return groups_.back().get();
}

Signal* ThreadTeam::MakeSignal() {
  signals_.push_back(std::make_unique<Signal>(&aborted_));
  return signals_.back().get();
}

void ThreadTeam::Run(const std::function<void(int)>& body) {
  std::optional<PinnedHere> pinned;
  if (!cpus_.empty()) pinned.emplace(cpus_[0]);
  aborted_.store(false);
  error_ = nullptr;
  body_ = &body;
  running_.store(n_threads_ - 1, std::memory_order_relaxed);
  const uint32_t done = done_.value();
  start_.Advance();
  Guarded(0);
  if (n_threads_ > 1) done_.AwaitChange(done);
  if (error_ == nullptr) return;
  for (const auto& group : groups_) group->Reset();
  std::rethrow_exception(error_);
}

// The life of a thread: it waits, runs and reports, until there is nothing to run.
void ThreadTeam::Serve(int thread) {
  if (!cpus_.empty()) SetThreadCpus(cpus_[static_cast<size_t>(thread)]);
  for (uint32_t runs = 0;; ++runs) {
    start_.AwaitChange(runs);
    if (body_ == nullptr) return;
    Guarded(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.Advance();
  }
}

void ThreadTeam::Guarded(int thread) {
  // A library called inside (oneDNN) must stay on the lane's own thread, also in a team of one.
  omp_set_num_threads(1);
  try {
    (*body_)(thread);
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
  for (const auto& group : groups_) group->Wake();
  for (const auto& signal : signals_) signal->Advance();
}

}  // namespace thermocline
