// Lists of the neurons that a predictor has chosen, made and used on the GPU.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/activation.h"

namespace thermocline {

// A list of a layer's m neurons, in memory the GPU sees. Where rows and count are null, all neurons
// are listed.
struct GpuNeuronList {
  int32_t* rows = nullptr;   // (m) first those listed, ascending, then all the others, ascending
  int32_t* count = nullptr;  // one: how many are listed
  // (m) Bit t of masks[p] says whether token t of the pass wants neuron rows[p], for listed neurons
  // only. Where it is null, every token wants each of them.
  uint32_t* masks = nullptr;
};
inline constexpr int64_t kMaxListTokens = 32;

// Lists the neurons whose score is above predictor_threshold for any of the tokens. NaN counts as
// above, so that garbage stays visible. scores: (n_tokens, n_neurons) f32 on the GPU, a
// predictor's. n_wanted: one, the bits set in all masks. list: all of it is written. Asynchronous
// on `stream`; throws Error on launch. REQUIRES: n_tokens <= kMaxListTokens.
void GpuListNeurons(Stream& stream, const float* scores, int64_t n_tokens, int64_t n_neurons,
                    float predictor_threshold, const GpuNeuronList& list, int32_t* n_wanted);

// h[t, i] = 0 where token t does not want neuron i. h: (n_tokens, n_neurons) f32 on the GPU.
// Asynchronous on `stream`; throws Error on launch.
void GpuDropUnwanted(Stream& stream, const GpuNeuronList& list, int64_t n_tokens, int64_t n_neurons,
                     float* h);

// How good a list is, over all tokens together.
struct GpuListAudit {
  int32_t hits;    // active neurons that their token wanted
  int32_t missed;  // active neurons that their token did not want
};
// A neuron is active where act(gates[t, i] + gate_bias[i]) is not 0. gates: (n_tokens, n_neurons)
// f32, W_gate x; gate_bias: (n_neurons) or null; audit: one; all in memory the GPU sees.
// Asynchronous on `stream`; throws Error on launch. REQUIRES: a list with masks.
void GpuAuditList(Stream& stream, const GpuNeuronList& list, const float* gates,
                  const float* gate_bias, const GpuActivation& activation, int64_t n_tokens,
                  int64_t n_neurons, GpuListAudit* audit);

}  // namespace thermocline
