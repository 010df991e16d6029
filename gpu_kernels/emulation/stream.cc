#include "gpu_kernels/emulation/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "gpu_kernels/emulation/control.h"
#include "gpu_kernels/emulation/memory.h"

using namespace thermocline::emulation;

struct CUgraph_st {
  std::vector<Operation> operations;  // in the order in which they were recorded
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<Operation>> operations;
};

namespace {

using Clock = std::chrono::steady_clock;

// One recording of an event; who waits for it keeps it although the event is recorded anew.
class Moment {
 public:
  void Reach() {
    const std::lock_guard lock(mutex_);
    reached_ = true;
    time_ = Clock::now();
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
  Clock::time_point time() {
    const std::lock_guard lock(mutex_);
    return time_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
  Clock::time_point time_;
};

// A capture that goes on, begun by one stream; others join it by waiting for one of its events.
struct Capture {
  cudaStream_t origin = nullptr;
  std::vector<Operation> operations;
  std::vector<cudaStream_t> streams;
  // Streams with work that the origin has not waited for.
  std::vector<cudaStream_t> unjoined;
  bool invalid = false;
};

// Captures are rare and short: one lock for all of them.
std::mutex capture_mutex;
thread_local Capture* capture_of_this_thread = nullptr;

}  // namespace

struct CUevent_st {
  std::shared_ptr<Moment> latest;
  std::shared_ptr<Capture> captured_in;
  cudaStream_t captured_on = nullptr;
};

struct CUstream_st {
 public:
  CUstream_st() : worker_([this] { Work(); }) {}

  // What is enqueued is carried out first.
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

  void Push(Operation operation) {
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

  std::shared_ptr<Capture> capture;  // guarded by capture_mutex

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const Operation operation = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      operation();
      lock.lock();
      --n_unfinished_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Operation> queue_;
  size_t n_unfinished_ = 0;
  bool closing_ = false;
  std::thread worker_;
};

namespace {

struct Streams {
  std::mutex mutex;
  std::vector<cudaStream_t> all;
};
Streams& TheStreams() {
  static Streams streams;
  return streams;
}

// The capture that a stream takes part in, or null. REQUIRES: capture_mutex.
Capture* ActiveCapture(cudaStream_t stream) { return stream->capture.get(); }

// An operation that cannot be recorded ends a capture.
cudaError_t NotWhileCapturing(cudaStream_t stream) {
  const std::lock_guard lock(capture_mutex);
  Capture* const capture = ActiveCapture(stream);
  if (capture == nullptr) return cudaSuccess;
  capture->invalid = true;
  return Failed(cudaErrorStreamCaptureUnsupported);
}

cudaError_t StickyError() { return HasReport() ? cudaErrorLaunchFailure : cudaSuccess; }

}  // namespace

namespace thermocline::emulation {

cudaError_t ErrorUnlessCallable() {
  if (capture_of_this_thread != nullptr) {
    const std::lock_guard lock(capture_mutex);
    capture_of_this_thread->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  return StickyError();
}

void WaitForAllStreams() {
  std::vector<cudaStream_t> streams;
  {
    const std::lock_guard lock(TheStreams().mutex);
    streams = TheStreams().all;
  }
  for (const cudaStream_t stream : streams) stream->Wait();
}

cudaError_t Enqueue(cudaStream_t stream, Operation operation) {
  if (stream == nullptr) return Failed(cudaErrorInvalidResourceHandle);  // not the default stream
  if (StickyError() != cudaSuccess) return cudaErrorLaunchFailure;
  const std::lock_guard lock(capture_mutex);
  Capture* const capture = ActiveCapture(stream);
  if (capture == nullptr) {
    stream->Push([operation = std::move(operation)] {
      if (!HasReport()) operation();
    });
    return cudaSuccess;
  }
  if (capture->invalid) return Failed(cudaErrorStreamCaptureInvalidated);
  capture->operations.push_back(std::move(operation));
  if (stream != capture->origin && std::ranges::count(capture->unjoined, stream) == 0) {
    capture->unjoined.push_back(stream);
  }
  return cudaSuccess;
}

cudaError_t EnqueueKernel(cudaStream_t stream, const KernelLaunch& launch,
                          const std::vector<const void*>& pointers, std::function<void()> body) {
  const dim3 grid = launch.grid;
  const dim3 block = launch.block;
  const uint64_t n_threads = uint64_t{block.x} * block.y * block.z;
  if (n_threads == 0 || n_threads > kMaxThreads || block.z > 64 ||
      uint64_t{grid.x} * grid.y * grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || launch.shared_bytes > kMaxSharedBytes) {
    return Failed(cudaErrorInvalidConfiguration);
  }
  for (size_t i = 0; i < pointers.size(); ++i) {
    if (pointers[i] == nullptr) continue;
    const Place place = PlaceOf(pointers[i], 0);
    if (place == Place::kDevice || place == Place::kMapped) continue;
    SetReport(fmt::format("emulated kernel {}: its pointer {} (counted from 0) points to {}",
                          launch.name, i,
                          place == Place::kUnknown ? "memory that the device does not see"
                                                   : "the outside of its allocation"));
    return cudaErrorLaunchFailure;
  }
  return Enqueue(stream, [launch, body = std::move(body)] {
    thread_local BlockRunner runner;
    auto call = [](void* kernel) { (*static_cast<const std::function<void()>*>(kernel))(); };
    std::string report = runner.RunGrid(launch, call, const_cast<std::function<void()>*>(&body));
    if (report.empty()) {
      report = FindBrokenCanary();
      if (!report.empty()) report = fmt::format("emulated kernel {}: {}", launch.name, report);
    }
    if (!report.empty()) SetReport(report);
  });
}

}  // namespace thermocline::emulation

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = ErrorUnlessCallable(); error != cudaSuccess) return Failed(error);
  WaitForAllStreams();
  return StickyError();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags > cudaStreamNonBlocking) return Failed(cudaErrorInvalidValue);
  *stream = new CUstream_st;
  const std::lock_guard lock(TheStreams().mutex);
  TheStreams().all.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard lock(TheStreams().mutex);
    std::erase(TheStreams().all, stream);
  }
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = NotWhileCapturing(stream); error != cudaSuccess) return error;
  stream->Wait();
  return StickyError();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t error = NotWhileCapturing(stream); error != cudaSuccess) return error;
  if (!stream->idle()) return cudaErrorNotReady;
  return StickyError();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  const std::lock_guard lock(capture_mutex);
  if (event->captured_in != nullptr) {
    Capture& capture = *event->captured_in;
    if (stream->capture == nullptr) {
      stream->capture = event->captured_in;
      capture.streams.push_back(stream);
    } else if (stream->capture != event->captured_in) {
      return Failed(cudaErrorStreamCaptureUnsupported);
    }
    if (stream == capture.origin) std::erase(capture.unjoined, event->captured_on);
    return cudaSuccess;
  }
  if (stream->capture != nullptr) return Failed(cudaErrorStreamCaptureUnsupported);
  if (event->latest == nullptr) return cudaSuccess;  // never recorded: nothing to wait for
  stream->Push([moment = event->latest] { moment->Wait(); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(capture_mutex);
  event->captured_in = stream->capture;
  event->captured_on = stream;
  if (stream->capture != nullptr) return cudaSuccess;
  event->latest = std::make_shared<Moment>();
  stream->Push([moment = event->latest] { moment->Reach(); });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->captured_in != nullptr) return Failed(cudaErrorStreamCaptureUnsupported);
  if (event->latest != nullptr) event->latest->Wait();
  return StickyError();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->captured_in != nullptr) return Failed(cudaErrorStreamCaptureUnsupported);
  if (event->latest != nullptr && !event->latest->reached()) return cudaErrorNotReady;
  return StickyError();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start->latest == nullptr || end->latest == nullptr) {
    return Failed(cudaErrorInvalidResourceHandle);
  }
  if (!start->latest->reached() || !end->latest->reached()) return cudaErrorNotReady;
  const auto time = end->latest->time() - start->latest->time();
  *milliseconds = std::chrono::duration<float, std::milli>(time).count();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Place from_place = PlaceOf(from, n_bytes);
  const Place to_place = PlaceOf(to, n_bytes);
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const auto is_device = [](Place place) {
    return place == Place::kDevice || place == Place::kMapped;
  };
  if (from_place == Place::kOutside || to_place == Place::kOutside ||
      (from_device && !is_device(from_place)) || (to_device && !is_device(to_place))) {
    return Failed(cudaErrorInvalidValue);
  }
  const cudaError_t error = Enqueue(stream, [=] { std::memmove(to, from, n_bytes); });
  // Ordinary host memory is copied before the call returns (hardware stages it).
  const bool pageable = from_place == Place::kUnknown || to_place == Place::kUnknown;
  if (error != cudaSuccess || !pageable) return error;
  return cudaStreamSynchronize(stream);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t n_bytes, cudaStream_t stream) {
  const Place place = PlaceOf(to, n_bytes);
  if (place != Place::kDevice && place != Place::kMapped) return Failed(cudaErrorInvalidValue);
  return Enqueue(stream, [=] { std::memset(to, value, n_bytes); });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  return Enqueue(stream, [=] { function(argument); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(capture_mutex);
  if (stream->capture != nullptr) return Failed(cudaErrorInvalidValue);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->streams.push_back(stream);
  if (mode != cudaStreamCaptureModeRelaxed) capture_of_this_thread = stream->capture.get();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(capture_mutex);
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr || capture->origin != stream) return Failed(cudaErrorInvalidValue);
  for (const cudaStream_t member : capture->streams) member->capture = nullptr;
  if (capture_of_this_thread == capture.get()) capture_of_this_thread = nullptr;
  if (capture->invalid) return Failed(cudaErrorStreamCaptureInvalidated);
  if (!capture->unjoined.empty()) return Failed(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->operations)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(capture_mutex);
  const Capture* const capture = ActiveCapture(stream);
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->invalid ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  *exec = new CUgraphExec_st{std::make_shared<const std::vector<Operation>>(graph->operations)};
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* /*nodes*/, size_t* n_nodes) {
  *n_nodes = graph->operations.size();
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return Enqueue(stream, [operations = exec->operations] {
    for (const Operation& operation : *operations) {
      if (HasReport()) return;
      operation();
    }
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
