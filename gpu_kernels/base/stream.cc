#include "gpu_kernels/base/stream.h"

#include "gpu_kernels/base/check.h"

// Destructors cannot throw, and what they would report has been, or will be, by the call that
// failed.
namespace thermocline {

Event::Event(Timing timing) {
  const unsigned flags = timing == Timing::kOn ? cudaEventDefault : cudaEventDisableTiming;
  CUDA_CHECK(cudaEventCreateWithFlags(&handle_, flags));
}

Event::~Event() {
  if (handle_ != nullptr) static_cast<void>(cudaEventDestroy(handle_));
}

void Event::Synchronize() { CUDA_CHECK(cudaEventSynchronize(handle_)); }

bool Event::Reached() {
  const cudaError_t state = cudaEventQuery(handle_);
  if (state != cudaErrorNotReady) CUDA_CHECK_FOR(state, "work before an event");
  return state == cudaSuccess;
}

float ElapsedMs(const Event& start, const Event& end) {
  float elapsed_ms = 0;
  CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, start.handle(), end.handle()));
  return elapsed_ms;
}

Stream::Stream() { CUDA_CHECK(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking)); }

Stream::~Stream() {
  if (handle_ != nullptr) static_cast<void>(cudaStreamDestroy(handle_));
}

void Stream::Copy(void* to, const void* from, uint64_t n_bytes) {
  if (n_bytes == 0) return;
  CUDA_CHECK(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, handle_));
}

void Stream::Fill(void* to, uint8_t byte, uint64_t n_bytes) {
  if (n_bytes == 0) return;
  CUDA_CHECK(cudaMemsetAsync(to, byte, n_bytes, handle_));
}

void Stream::Record(Event& event) { CUDA_CHECK(cudaEventRecord(event.handle(), handle_)); }

void Stream::Wait(const Event& event) {
  CUDA_CHECK(cudaStreamWaitEvent(handle_, event.handle(), cudaEventWaitDefault));
}

void Stream::Call(void (*function)(void*), void* argument) {
  CUDA_CHECK(cudaLaunchHostFunc(handle_, function, argument));
}

void Stream::Synchronize() { CUDA_CHECK_FOR(cudaStreamSynchronize(handle_), "work on a stream"); }

bool Stream::Finished() {
  const cudaError_t state = cudaStreamQuery(handle_);
  if (state != cudaErrorNotReady) CUDA_CHECK_FOR(state, "work on a stream");
  return state == cudaSuccess;
}

bool Stream::Capturing() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_CHECK(cudaStreamIsCapturing(handle_, &status));
  return status != cudaStreamCaptureStatusNone;
}

Graph::~Graph() {
  if (handle_ != nullptr) static_cast<void>(cudaGraphExecDestroy(handle_));
}

void Graph::Launch(Stream& stream) { CUDA_CHECK(cudaGraphLaunch(handle_, stream.handle())); }

GraphCapture::GraphCapture(Stream& stream) : stream_(stream) {
  CUDA_CHECK(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal));
}

GraphCapture::~GraphCapture() {
  if (!recording_) return;
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream_.handle(), &graph) == cudaSuccess) {
    static_cast<void>(cudaGraphDestroy(graph));
  }
}

Graph GraphCapture::Finish() {
  recording_ = false;
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamEndCapture(stream_.handle(), &graph));
  size_t n_nodes = 0;
  cudaGraphExec_t exec = nullptr;
  cudaError_t error = cudaGraphGetNodes(graph, nullptr, &n_nodes);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&exec, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  CUDA_CHECK_FOR(error, "making a graph of what was captured");
  return {exec, n_nodes};
}

}  // namespace thermocline
