// Captures and graphs. A graph is the list of the operations that were recorded, in that order.
#include <memory>
#include <mutex>
#include <utility>

#include "gpu_kernels/emulation/control.h"
#include "gpu_kernels/emulation/stream_state.h"

using namespace thermocline::emulation;

struct CUgraph_st {
  std::vector<Operation> operations;  // in the order in which they were recorded
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<Operation>> operations;
};

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
  const Capture* const capture = stream->capture.get();
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
