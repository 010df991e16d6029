// The insides of streams, events and captures, for stream.cc, event.cc and graph.cc.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gpu_kernels/emulation/memory.h"
#include "gpu_kernels/emulation/stream.h"

namespace thermocline::emulation {

// One recording of an event. Who waits for it keeps it although the event is recorded anew.
class Moment {
 public:
  void Reach() {
    const std::lock_guard lock(mutex_);
    reached_ = true;
    time_ = std::chrono::steady_clock::now();
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
  }
  bool reached() {
    const std::lock_guard lock(mutex_);
    return reached_;
  }
  std::chrono::steady_clock::time_point time() {
    const std::lock_guard lock(mutex_);
    return time_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
  std::chrono::steady_clock::time_point time_;
};

// A capture that goes on, begun by one stream. Other streams join it by waiting for one of its
// events.
struct Capture {
  cudaStream_t origin = nullptr;
  std::vector<Operation> operations;
  std::vector<cudaStream_t> streams;
  // Streams with work that the origin has not waited for.
  std::vector<cudaStream_t> unjoined;
  bool invalid = false;
};

// One lock serves all captures, and who takes part in which: they are rare and short.
inline std::mutex capture_mutex;
// The capture that this thread began and that forbids it to call what cannot be captured.
inline thread_local Capture* capture_of_this_thread = nullptr;

// Returns the error of a call that a stream cannot make while it is captured. It ends the capture.
cudaError_t NotWhileCapturing(cudaStream_t stream);

// Returns what every call returns once a kernel has failed.
cudaError_t StickyError();

}  // namespace thermocline::emulation

struct CUevent_st {
  std::shared_ptr<thermocline::emulation::Moment> latest;
  std::shared_ptr<thermocline::emulation::Capture> captured_in;
  cudaStream_t captured_on = nullptr;
};

struct CUstream_st {
 public:
  CUstream_st() : worker_([this] { Work(); }) {}

  // Carries out first what is enqueued.
  ~CUstream_st() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      changed_.notify_all();
    }
    worker_.join();
  }
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;

  void Push(thermocline::emulation::Operation operation) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(operation));
    ++n_unfinished_;
    changed_.notify_all();
  }

  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return n_unfinished_ == 0; });
  }

  bool idle() {
    const std::lock_guard lock(mutex_);
    return n_unfinished_ == 0;
  }

  std::shared_ptr<thermocline::emulation::Capture> capture;  // guarded by capture_mutex

 private:
  void Work() {
    std::optional<thermocline::emulation::DeviceAccess> access;  // while there is work
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const thermocline::emulation::Operation operation = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      if (!access) access.emplace();
      operation();
      lock.lock();
      if (queue_.empty()) access.reset();
      --n_unfinished_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<thermocline::emulation::Operation> queue_;
  size_t n_unfinished_ = 0;
  bool closing_ = false;
  std::thread worker_;
};
