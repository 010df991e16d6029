// What the cases of GPU kernels share: a chain of operations that is verified, then timed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/weight_layout.h"
#include "tools/kernel_bench/bench_weights.h"

namespace thermocline {

// A chain of equal operations (links) on data of their own.
class GpuChain {
 public:
  struct Shape {
    int64_t n_links = 1;
    double link_bytes = 0;  // bytes that a link must read; 0: its time is what matters
    double link_flops = 0;  // operations of a link; 0: not reported
    bool captured = true;   // as a graph
  };
  GpuChain(std::string name, Stream& stream) : name_(std::move(name)), stream_(stream) {}
  virtual ~GpuChain() = default;
  GpuChain(const GpuChain&) = delete;
  GpuChain& operator=(const GpuChain&) = delete;

  virtual Shape shape() const = 0;
  // Enqueues all links, in order. It may be repeated. Asynchronous.
  virtual void Enqueue() = 0;
  // Compares what one Enqueue() left; ends the program where it is wrong (ExpectNear).
  virtual void Verify() = 0;

  Stream& stream() const { return stream_; }
  const std::string& name() const { return name_; }

 protected:
  struct Reference {
    double value;
    double allowed;  // how far off it may be
  };
  void ExpectNear(double found, const Reference& reference) const;

  std::string name_;
  Stream& stream_;
};

// Whether cases are only verified, at small shapes.
bool GpuIsEmulated();
// Returns the bytes of weights that a chain should have: 2 GB, or what half of the free memory
// holds.
uint64_t GpuChainBytes();

// Adds a case. make is called when the case runs. Memory that it does not get skips the case.
void AddGpuCase(const std::string& name,
                std::function<std::unique_ptr<GpuChain>(const std::string&, Stream&)> make);

template <typename T>
DeviceMemory UploadToGpu(Stream& stream, const std::vector<T>& values) {
  DeviceMemory memory(values.size() * sizeof(T), "a bench's data");
  stream.Copy(memory.as<T>(), values.data(), memory.size());
  stream.Synchronize();
  return memory;
}
template <typename T>
std::vector<T> DownloadFromGpu(Stream& stream, const DeviceMemory& memory) {
  std::vector<T> values(memory.size() / sizeof(T));
  stream.Copy(values.data(), memory.as<T>(), memory.size());
  stream.Synchronize();
  return values;
}

// Copies of one matrix, each at its own place, as many as GpuChainBytes() holds.
class GpuMatrices {
 public:
  GpuMatrices(Stream& stream, DType dtype, int64_t rows, int64_t cols, int64_t multiple = 1);
  int64_t size() const { return n_; }  // a multiple of `multiple`
  GpuMatrix at(int64_t i) const;
  // Returns row r of every matrix, decoded. Rows repeat after kDistinctRows.
  const std::vector<float>& row(int64_t r) const { return host_.distinct(r); }
  const std::vector<float>& x() const { return host_.x(); }  // (cols) random values

 private:
  BenchWeights host_;
  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  int64_t n_ = 0;
  uint64_t matrix_bytes_ = 0;
  DeviceMemory memory_;
};

// How exactly a product sees its input.
struct InputRounding {
  bool to_int8 = false;  // per 32 elements, as gpu_kernels/products/activations.h says
  double of_value = 0;   // relative rounding of a value: 2^-11 for f16
};
InputRounding DecodeRounding(DType weights);  // how GpuMatvec and GpuFfnGateUp take x

struct DotReference {
  double value = 0;
  double allowed = 0;
};
// Returns w . x, both of n elements, by a kernel that sums in f32.
DotReference ReferenceDot(const float* w, const float* x, int64_t n, const InputRounding& rounding);

void RegisterGpuReads();
void RegisterGpuMatrixCases();
void RegisterGpuFfnCases();
void RegisterGpuTokenCases();

}  // namespace thermocline
