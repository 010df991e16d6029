// Streams, events and graphs of the GPU, without CUDA's types. Everything here throws Error
// (gpu_kernels/base/check.h) when CUDA reports an error; an error of a kernel shows at the first
// call behind it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

// CUDA's own names for what its handles point to.
struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;

namespace thermocline {

class Stream;

// A point in a stream's work.
class Event {
 public:
  enum class Timing { kOff, kOn };
  explicit Event(Timing timing = Timing::kOff);
  ~Event();
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Synchronize();
  bool Reached();
  CUevent_st* handle() const { return handle_; }

 private:
  CUevent_st* handle_ = nullptr;
};

// Milliseconds between two reached events. REQUIRES: both with Timing::kOn.
float ElapsedMs(const Event& start, const Event& end);

// Work for the GPU that is carried out in order, beside other streams.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Copies between any two of: device memory, mapped memory, ordinary memory (which is waited for).
  // Asynchronous.
  void Copy(void* to, const void* from, uint64_t n_bytes);
  void Fill(void* to, uint8_t byte, uint64_t n_bytes);
  void Record(Event& event);
  void Wait(const Event& event);
  // Calls function(argument) on a thread of CUDA's; it must not call CUDA.
  void Call(void (*function)(void*), void* argument);

  void Synchronize();
  bool Finished();  // all work so far
  bool Capturing();
  CUstream_st* handle() const { return handle_; }

 private:
  CUstream_st* handle_ = nullptr;
};

// Recorded work that is launched as one. Arguments of its kernels are as they were when it was
// recorded.
class Graph {
 public:
  ~Graph();
  Graph(Graph&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), n_nodes_(other.n_nodes_) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void Launch(Stream& stream);
  uint64_t n_nodes() const { return n_nodes_; }

 private:
  friend class GraphCapture;
  Graph(CUgraphExec_st* handle, uint64_t n_nodes) : handle_(handle), n_nodes_(n_nodes) {}
  CUgraphExec_st* handle_ = nullptr;
  uint64_t n_nodes_ = 0;
};

// Records what is enqueued on a stream, and on streams that wait for its events, instead of running
// it. While it lives this thread must not allocate or free GPU memory, nor wait for the GPU.
class GraphCapture {
 public:
  explicit GraphCapture(Stream& stream);
  ~GraphCapture();  // drops what was recorded, unless Finish() was called
  GraphCapture(const GraphCapture&) = delete;
  GraphCapture& operator=(const GraphCapture&) = delete;

  Graph Finish();

 private:
  Stream& stream_;
  bool recording_ = true;
};

}  // namespace thermocline
