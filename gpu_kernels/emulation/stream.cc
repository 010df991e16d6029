#include "gpu_kernels/emulation/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "gpu_kernels/emulation/control.h"
#include "gpu_kernels/emulation/memory.h"
#include "gpu_kernels/emulation/stream_state.h"

using namespace thermocline::emulation;

namespace {

struct Streams {
  std::mutex mutex;
  std::vector<cudaStream_t> all;
};
Streams& TheStreams() {
  static Streams streams;
  return streams;
}

}  // namespace

namespace thermocline::emulation {

cudaError_t NotWhileCapturing(cudaStream_t stream) {
  const std::lock_guard lock(capture_mutex);
  if (stream->capture == nullptr) return cudaSuccess;
  stream->capture->invalid = true;
  return Failed(cudaErrorStreamCaptureUnsupported);
}

cudaError_t StickyError() { return HasReport() ? cudaErrorLaunchFailure : cudaSuccess; }

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
  Capture* const capture = stream->capture.get();
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
  // Ordinary host memory is copied before the call returns, as hardware stages it.
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
