// Events, and what waits for them.
#include <algorithm>

#include "gpu_kernels/emulation/stream_state.h"

using namespace thermocline::emulation;

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
