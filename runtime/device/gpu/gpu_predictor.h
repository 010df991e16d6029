// A predictor's part of a layer on the GPU: scores, the list of the neurons that its tokens want,
// and how good that list is.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/neuron_list.h"
#include "gpu_kernels/products/sign_scores.h"
#include "predictor/predictor.h"
#include "predictor/sign_predictor.h"
#include "runtime/device/device.h"

namespace thermocline {

// What the GPU counts of a layer's FFN in a pass.
struct GpuLayerCounts {
  int32_t active;  // elements of h that are not 0
  int32_t listed;  // neurons that some token wanted
  int32_t wanted;  // pairs of a token and a neuron it wanted
  GpuListAudit audit;
};

class GpuPredictor {
 public:
  struct Limits {
    int64_t max_neurons = 0;
    int64_t max_tokens = 0;  // of a pass that has a predictor
    int64_t max_rank = 0;    // of its matrices; 0: none
    int64_t d_model = 0;
  };
  explicit GpuPredictor(const Limits& limits);
  static uint64_t Bytes(const Limits& limits);

  // What a predictor reads of n tokens: (n, d_model) f32, and the same prepared where it is.
  struct Input {
    const float* x = nullptr;
    const GpuVectors* prepared = nullptr;  // null: not prepared
    int64_t n_tokens = 0;
  };
  // Enqueues it. counts: on the GPU, of which it fills listed and wanted. scores: (n, n_neurons)
  // scratch on the GPU. The list is good until the next call.
  GpuNeuronList List(Stream& stream, const SlicePredictor& predictor, const Input& input,
                     int64_t n_neurons, float* scores, GpuLayerCounts* counts);

 private:
  void ScoreByMatrices(Stream& stream, const LayerPredictor& predictor, const Input& input,
                       float* scores);
  const GpuVectors& Prepare(Stream& stream, const float* x, int64_t n_tokens, int64_t cols,
                            PrepareOp op);

  Limits limits_;
  DeviceMemory rows_;     // (max_neurons) i32
  DeviceMemory masks_;    // (max_neurons) u32
  DeviceMemory inner_;    // (max_tokens, max_rank) f32: between the matrices
  DeviceMemory vectors_;  // the input of a matrix
  DeviceMemory signs_;    // the input as sign bits
  GpuVectors at_hand_;
};

// Sign bits in memory of the GPU that `device` is, in the form that its kernels read.
DeviceSigns StoreGpuSigns(const SignRows& rows, Device& device);

}  // namespace thermocline
