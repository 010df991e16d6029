// A block of emulated GPU threads: its threads are fibers that run one after the other, each until
// it waits for others (a barrier, a warp's exchange) or ends. What would be undefined on hardware
// and can be seen here ends the kernel with a report: threads that wait at different barriers or
// have returned while others wait, lanes that exchange under different masks, a lane read that
// takes no part.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gpu_kernels/emulation/fiber.h"
#include "gpu_kernels/emulation/shared_memory.h"
#include "gpu_kernels/emulation/vector_types.h"
#include "runtime/core/error.h"

namespace thermocline::emulation {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
// Shared memory that a block may have on the smallest device we support (compute capability 7.5):
// in static arrays, and together with dynamic ones.
constexpr size_t kMaxStaticBytes = 48 << 10;
constexpr size_t kMaxSharedBytes = 64 << 10;

// A place in a kernel's source.
struct Site {
  const char* file;
  int line;
};

// Which kernel runs, for reports and for its limits.
struct KernelLaunch {
  const char* name;
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // of dynamic shared memory
};

class BlockRunner;

struct Thread {
  enum class State : uint8_t { kRunnable, kAtBarrier, kInExchange, kReturned };

  uint3 index = {};
  unsigned number = 0;  // within the block, x fastest
  State state = State::kRunnable;
  BlockRunner* block = nullptr;
  Fiber* fiber = nullptr;
  // These order accesses to shared memory within a warp: own_clock counts this lane's
  // __syncwarp()s, and seen[l] is the last count of lane l whose accesses happened before anything
  // this lane does now.
  uint32_t own_clock = 1;
  uint32_t seen[kWarpSize] = {};

  unsigned lane() const { return number % kWarpSize; }
  unsigned warp() const { return number / kWarpSize; }
};

// What a lane brings to an exchange of its warp, and what it gets.
struct Exchange {
  const char* what = nullptr;  // the intrinsic
  unsigned mask = 0;
  Site site = {};
  unsigned source = 0;     // lane whose value this one wants
  bool predicate = false;  // for votes
  uint64_t value[2] = {};
};
struct ExchangeResult {
  uint64_t value[2] = {};  // what the source lane brought
  unsigned ballot = 0;     // lanes whose predicate was true
};

class BlockRunner {
 public:
  BlockRunner();
  ~BlockRunner();
  BlockRunner(const BlockRunner&) = delete;
  BlockRunner& operator=(const BlockRunner&) = delete;

  // Runs body(argument) for every thread of every block: blocks in order, threads in the order that
  // control.h asks for. Returns "" or the report of what went wrong; then the rest has not run.
  std::string RunGrid(const KernelLaunch& launch, void (*body)(void*), void* argument);

  // The thread that runs calls the rest, through intrinsics.h and shared memory.

  // Waits for all threads of the block; returns how many brought true.
  unsigned Barrier(const char* what, Site site, bool predicate);
  // Waits for the lanes of the mask.
  ExchangeResult MeetWarp(const Exchange& mine);
  // __syncwarp: does what MeetWarp does, and what the lanes did before happens before what they do
  // after.
  void SyncWarp(unsigned mask, Site site);
  // Lets other threads run; reports when the kernel has run for longer than the watchdog allows.
  void Yield(Site site);
  // Ends the kernel with a report of what the running thread did.
  [[noreturn]] void Fail(const std::string& what);

  const KernelLaunch& launch() const { return launch_; }
  const uint3& block_index() const { return block_index_; }
  SharedMemory& shared() { return shared_; }
  Thread& running() { return *running_; }
  const Thread& thread(unsigned number) const { return threads_[number]; }
  unsigned n_threads() const { return static_cast<unsigned>(threads_.size()); }

 private:
  struct Warp {
    Exchange posts[kWarpSize];
    ExchangeResult results[kWarpSize];
    unsigned posted = 0;    // lanes that wait in an exchange
    unsigned lanes = 0;     // lanes the block has
    unsigned returned = 0;  // lanes that have ended
  };

  void Prepare(const KernelLaunch& launch);
  void RunBlock();
  void RunThread(Thread& thread);
  void ThreadMain();
  void ThreadReturned();
  void WaitAs(Thread::State state);
  void StopIfFailed() const;
  void CompleteExchange(Warp& warp, unsigned mask);
  static void MergeClocks(Thread* first, unsigned mask);
  void CheckExchange(const Warp& warp, const Exchange& mine);
  void ReportStuck();
  void SetReport(const std::string& what);
  std::string NameOf(const Thread& thread) const;

  KernelLaunch launch_ = {};
  uint3 block_index_ = {};
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_;
  std::string order_name_;
  SharedMemory shared_;
  Thread* running_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  double deadline_ms_ = 0;
  // The barrier that threads of this block wait at.
  const char* barrier_what_ = nullptr;
  Site barrier_site_ = {};
  unsigned n_at_barrier_ = 0;
  unsigned n_true_ = 0;
  unsigned barrier_result_ = 0;
  unsigned n_returned_ = 0;
  std::string report_;  // not empty where the kernel failed; its threads unwind then
};

// The block that runs on this host thread, nullptr outside of kernels.
inline thread_local constinit BlockRunner* current_block = nullptr;
// REQUIRES: called from a kernel.
inline BlockRunner& CurrentBlock() {
  CHECK(current_block != nullptr);
  return *current_block;
}
inline const Thread& CurrentThread() { return CurrentBlock().running(); }

}  // namespace thermocline::emulation
