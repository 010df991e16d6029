#include "gpu_kernels/emulation/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <numeric>
#include <random>
#include <string_view>

#include "gpu_kernels/emulation/control.h"
#include "runtime/core/error.h"

namespace thermocline::emulation {
namespace {

// Unwinds the threads of a kernel that failed.
struct KernelStopped {};

double NowMs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

const char* BaseName(const char* path) {
  const char* name = path;
  for (const char* c = path; *c != 0; ++c) {
    if (*c == '/') name = c + 1;
  }
  return name;
}

bool SameText(const char* a, const char* b) { return a == b || std::string_view(a) == b; }

std::string At(Site site) { return fmt::format("({}:{})", BaseName(site.file), site.line); }

std::string Describe(const Exchange& exchange) {
  return fmt::format("{} {} with mask {:#010x}", exchange.what, At(exchange.site), exchange.mask);
}

constexpr char kSyncWarp[] = "__syncwarp";

}  // namespace

BlockRunner::BlockRunner() = default;
BlockRunner::~BlockRunner() = default;

std::string BlockRunner::RunGrid(const KernelLaunch& launch, void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  report_.clear();
  Prepare(launch);
  current_block = this;
  const dim3 grid = launch.grid;
  for (unsigned z = 0; z < grid.z && report_.empty(); ++z) {
    for (unsigned y = 0; y < grid.y && report_.empty(); ++y) {
      for (unsigned x = 0; x < grid.x && report_.empty(); ++x) {
        block_index_ = {x, y, z};
        RunBlock();
      }
    }
  }
  current_block = nullptr;
  return report_;
}

void BlockRunner::Prepare(const KernelLaunch& launch) {
  static std::atomic<uint32_t> n_launches = 0;
  const uint32_t number = n_launches++;
  launch_ = launch;
  const unsigned n = launch.block.x * launch.block.y * launch.block.z;
  while (fibers_.size() < n) fibers_.push_back(std::make_unique<Fiber>());
  threads_.assign(n, {});
  warps_.assign((n + kWarpSize - 1) / kWarpSize, {});
  order_.resize(n);
  std::iota(order_.begin(), order_.end(), 0u);

  const Settings settings = CurrentSettings();
  deadline_ms_ = NowMs() + settings.watchdog_ms;
  ThreadOrder order = settings.order;
  uint32_t seed = settings.seed;
  if (order == ThreadOrder::kMixed) {
    constexpr ThreadOrder kTurns[] = {ThreadOrder::kAscending, ThreadOrder::kDescending,
                                      ThreadOrder::kShuffled};
    order = kTurns[number % 3];
    seed = number;
  }
  order_name_ = "ascending";
  if (order == ThreadOrder::kDescending) {
    std::reverse(order_.begin(), order_.end());
    order_name_ = "descending";
  } else if (order == ThreadOrder::kShuffled) {
    std::shuffle(order_.begin(), order_.end(), std::mt19937(seed));
    order_name_ = fmt::format("shuffled (seed {})", seed);
  }
  shared_.BeginGrid();
}

void BlockRunner::RunBlock() {
  const dim3 size = launch_.block;
  for (Warp& warp : warps_) warp.posted = warp.lanes = warp.returned = 0;
  for (unsigned number = 0; number < n_threads(); ++number) {
    Thread& thread = threads_[number];
    thread = {};
    thread.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
    thread.number = number;
    thread.block = this;
    thread.fiber = fibers_[number].get();
    thread.fiber->SetBody([](void* self) { static_cast<BlockRunner*>(self)->ThreadMain(); }, this);
    warps_[thread.warp()].lanes |= 1u << thread.lane();
  }
  n_at_barrier_ = n_true_ = n_returned_ = 0;
  shared_.BeginBlock(launch_.shared_bytes);
  while (n_returned_ < n_threads()) {
    bool progress = false;
    for (const unsigned number : order_) {
      Thread& thread = threads_[number];
      if (thread.state != Thread::State::kRunnable) continue;
      progress = true;
      running_ = &thread;
      thread.fiber->Resume();
    }
    if (!progress) ReportStuck();
  }
}

void BlockRunner::ThreadMain() {
  try {
    if (report_.empty()) body_(argument_);
    if (report_.empty()) ThreadReturned();
  } catch (const KernelStopped&) {
  }
  running_->state = Thread::State::kReturned;
  ++n_returned_;
}

// A thread that ends must not be waited for.
void BlockRunner::ThreadReturned() {
  if (n_at_barrier_ > 0) {
    Fail(fmt::format("returned while other threads wait in {} {}", barrier_what_,
                     At(barrier_site_)));
  }
  Warp& warp = warps_[running_->warp()];
  warp.returned |= 1u << running_->lane();
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const Exchange& post = warp.posts[lane];
    if ((warp.posted >> lane & 1u) != 0 && (post.mask >> running_->lane() & 1u) != 0) {
      Fail(fmt::format("returned while lane {} of its warp waits for it in {}", lane,
                       Describe(post)));
    }
  }
}

void BlockRunner::WaitAs(Thread::State state) {
  running_->state = state;
  Thread* const self = running_;
  self->fiber->Suspend();
  StopIfFailed();
}

void BlockRunner::StopIfFailed() const {
  if (!report_.empty()) throw KernelStopped{};
}

void BlockRunner::SetReport(const std::string& what) {
  if (!report_.empty()) return;
  report_ = fmt::format("emulated kernel {}, block ({},{},{}) of ({},{},{}), threads run {}: {}",
                        launch_.name, block_index_.x, block_index_.y, block_index_.z,
                        launch_.grid.x, launch_.grid.y, launch_.grid.z, order_name_, what);
  for (Thread& thread : threads_) {
    if (thread.state != Thread::State::kReturned) thread.state = Thread::State::kRunnable;
  }
}

void BlockRunner::Fail(const std::string& what) {
  SetReport(NameOf(*running_) + " " + what);
  throw KernelStopped{};
}

std::string BlockRunner::NameOf(const Thread& thread) const {
  if (launch_.block.y == 1 && launch_.block.z == 1) return fmt::format("thread {}", thread.number);
  return fmt::format("thread {} ({},{},{})", thread.number, thread.index.x, thread.index.y,
                     thread.index.z);
}

void BlockRunner::ReportStuck() {
  std::string text = "all threads wait and none can go on:";
  const auto count = [&](Thread::State state) {
    return std::count_if(threads_.begin(), threads_.end(),
                         [&](const Thread& thread) { return thread.state == state; });
  };
  if (n_at_barrier_ > 0) {
    text += fmt::format(" {} of {} at {} {}", n_at_barrier_, n_threads(), barrier_what_,
                        At(barrier_site_));
  }
  if (count(Thread::State::kInExchange) > 0) {
    const auto waits = [](const Thread& thread) {
      return thread.state == Thread::State::kInExchange;
    };
    const Thread& thread = *std::find_if(threads_.begin(), threads_.end(), waits);
    const Exchange& post = warps_[thread.warp()].posts[thread.lane()];
    text += fmt::format(" {} in exchanges of their warps, {} in {}",
                        count(Thread::State::kInExchange), NameOf(thread), Describe(post));
  }
  SetReport(text);
}

unsigned BlockRunner::Barrier(const char* what, Site site, bool predicate) {
  StopIfFailed();
  if (n_returned_ > 0) {
    Fail(fmt::format("waits in {} {}, but {} threads of its block have returned", what, At(site),
                     n_returned_));
  }
  if (n_at_barrier_ == 0) {
    barrier_what_ = what;
    barrier_site_ = site;
  } else if (barrier_site_.line != site.line || !SameText(barrier_what_, what) ||
             !SameText(barrier_site_.file, site.file)) {
    Fail(fmt::format("waits in {} {} while others wait in {} {}", what, At(site), barrier_what_,
                     At(barrier_site_)));
  }
  ++n_at_barrier_;
  n_true_ += predicate ? 1 : 0;
  if (n_at_barrier_ < n_threads()) {
    WaitAs(Thread::State::kAtBarrier);
    return barrier_result_;
  }
  barrier_result_ = n_true_;
  n_at_barrier_ = n_true_ = 0;
  shared_.NextEpoch();
  for (Thread& thread : threads_) thread.state = Thread::State::kRunnable;
  return barrier_result_;
}

void BlockRunner::CheckExchange(const Warp& warp, const Exchange& mine) {
  const unsigned lane = running_->lane();
  const auto call = [&] { return Describe(mine); };
  if ((mine.mask >> lane & 1u) == 0) {
    Fail(fmt::format("calls {}, in which its own lane {} is missing", call(), lane));
  }
  if ((mine.mask & ~warp.lanes) != 0) {
    Fail(fmt::format("calls {}, but its warp has only the lanes {:#010x}", call(), warp.lanes));
  }
  if ((mine.mask & warp.returned) != 0) {
    Fail(fmt::format("calls {}, but the lanes {:#010x} have returned", call(), warp.returned));
  }
  if ((mine.mask >> mine.source & 1u) == 0) {
    Fail(fmt::format("reads lane {} in {}, in which that lane takes no part", mine.source, call()));
  }
  for (unsigned rest = warp.posted; rest != 0; rest &= rest - 1) {
    const unsigned other = std::countr_zero(rest);
    const Exchange& post = warp.posts[other];
    if ((mine.mask & post.mask) == 0) continue;
    if (post.mask != mine.mask || !SameText(post.what, mine.what)) {
      Fail(fmt::format("calls {} while lane {} waits in {}", call(), other, Describe(post)));
    }
    break;  // who waits with the same mask was compared with that lane when it came
  }
}

ExchangeResult BlockRunner::MeetWarp(const Exchange& mine) {
  StopIfFailed();
  Warp& warp = warps_[running_->warp()];
  const unsigned lane = running_->lane();
  CheckExchange(warp, mine);
  warp.posts[lane] = mine;
  warp.posted |= 1u << lane;
  if ((warp.posted & mine.mask) == mine.mask) {
    CompleteExchange(warp, mine.mask);
  } else {
    WaitAs(Thread::State::kInExchange);
  }
  return warp.results[lane];
}

void BlockRunner::CompleteExchange(Warp& warp, unsigned mask) {
  unsigned ballot = 0;
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = std::countr_zero(rest);
    ballot |= static_cast<unsigned>(warp.posts[lane].predicate) << lane;
  }
  Thread* const first = &threads_[running_->warp() * kWarpSize];
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = std::countr_zero(rest);
    const Exchange& source = warp.posts[warp.posts[lane].source];
    warp.results[lane] = {{source.value[0], source.value[1]}, ballot};
    first[lane].state = Thread::State::kRunnable;
  }
  if (SameText(warp.posts[std::countr_zero(mask)].what, kSyncWarp)) MergeClocks(first, mask);
  warp.posted &= ~mask;
}

void BlockRunner::SyncWarp(unsigned mask, Site site) {
  MeetWarp({.what = kSyncWarp, .mask = mask, .site = site, .source = running_->lane()});
}

// Every lane learns what any of the lanes did or knew.
void BlockRunner::MergeClocks(Thread* first, unsigned mask) {
  uint32_t merged[kWarpSize] = {};
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const Thread& thread = first[std::countr_zero(rest)];
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      merged[lane] = std::max(merged[lane], thread.seen[lane]);
    }
    merged[thread.lane()] = thread.own_clock;
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    Thread& thread = first[std::countr_zero(rest)];
    std::copy_n(merged, kWarpSize, thread.seen);
    ++thread.own_clock;
  }
}

void BlockRunner::Yield(Site site) {
  StopIfFailed();
  if (NowMs() > deadline_ms_) {
    Fail(
        fmt::format("still waits in __nanosleep {} when the watchdog ends the kernel: what it "
                    "waits for was not handed over",
                    At(site)));
  }
  WaitAs(Thread::State::kRunnable);
}

}  // namespace thermocline::emulation
