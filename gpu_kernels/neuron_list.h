// Lists of the neurons that a predictor has chosen, made and used on the GPU.
#pragma once

#include <cstdint>

#include "gpu_kernels/stream.h"

namespace thermocline {

// Neurons in ascending order; in memory the GPU sees. Both null: all neurons.
struct GpuNeuronList {
  int32_t* rows = nullptr;   // room for every neuron of the layer
  int32_t* count = nullptr;  // one
};

// Lists the neurons whose score is above predictor_threshold for any of the tokens, ascending.
// scores: (n_tokens, n_neurons) f32 on the GPU, a predictor's out_proj f(in_proj x) + bias.
// Asynchronous on `stream`; throws Error on launch.
void GpuListNeurons(Stream& stream, const float* scores, int64_t n_tokens, int64_t n_neurons,
                    float predictor_threshold, const GpuNeuronList& list);

}  // namespace thermocline
