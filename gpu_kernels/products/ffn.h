// The FFN of the neurons in the GPU's memory, for one token or a few (decode):
// h_i = act(gate_i . x + gate_bias_i) * (up_i . x + up_bias_i), y = sum over i of h_i down_i. In a
// plain FFN there is no up, and h_i = act(gate_i . x + gate_bias_i). What act is, and what else
// becomes of up, GpuActivation says.
//
// A neuron whose act(gate) is 0 needs neither its up nor its down row: with GpuSkip::kInactive they
// are not read, and y is the same (ReLU and its relatives: Deja Vu's exact case, arXiv:2310.17157).
// A list restricts everything to the neurons on it (gpu_kernels/products/neuron_list.h).
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/activation.h"
#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/channel_cut.h"
#include "gpu_kernels/products/neuron_list.h"
#include "gpu_kernels/products/weight_layout.h"

namespace thermocline {

enum class GpuSkip : uint8_t { kNothing, kInactive };

struct GpuGateUp {
  GpuMatrix gate;                    // (m, d_model)
  GpuMatrix up;                      // (m, d_model), of gate's type; no rows: a plain FFN
  const float* gate_bias = nullptr;  // (m) on the GPU, or null
  const float* up_bias = nullptr;    // (m) on the GPU, or null
  GpuActivation activation;
  // What adapters add to gates and ups before anything becomes of them, (n_tokens, m) f32 on the
  // GPU, or null. Either may be h: a neuron's is read before its h is written.
  const float* gate_added = nullptr;
  const float* up_added = nullptr;
  // The gates, (n_tokens, m) f32 on the GPU, where they are known; gate is then not read, and
  // nothing is added to them. May be h, too. Null: they are computed.
  const float* gates = nullptr;
  // Which activated gates count; others are 0 (CATS, arXiv:2404.08763).
  GpuRowCut activated_cut = {};
};

// h[t, i] for every neuron i, 0 where the list says that token t does not want it. x: n_tokens
// vectors of d_model. h: (n_tokens, m) f32 on the GPU. Rows of a neuron that is not listed are not
// read, and an up row is read only if the gate fires for some token that wants it. Asynchronous on
// `stream`; throws Error on launch.
void GpuFfnGateUp(Stream& stream, const GpuGateUp& weights, GpuSkip skip, const GpuNeuronList& list,
                  const GpuVectors& x, int64_t n_tokens, float* h);

// y[t, c] = sum over i of h[t, i] * down[i, c], down with one row per neuron: (m, d_model). h:
// (n_tokens, m) f32. With kInactive, rows are read where h is not 0 for some token. y: (n_tokens,
// d_model) f32. n_active: null, or how many elements of h are not 0, one int32. fired: null, or (m)
// to which a neuron's elements of h that are not 0 are added. All lie on the GPU.
// workspace: GpuFfnDownBytes(down, n_tokens) on the GPU, 16-byte aligned. Sums are f32 in an order
// that depends on down's shape and type alone, in which zeros change nothing: a token's y is the
// same bits beside any others, whatever they want.
void GpuFfnDown(Stream& stream, const GpuMatrix& down, GpuSkip skip, const float* h,
                int64_t n_tokens, void* workspace, float* y, int32_t* n_active,
                uint32_t* fired = nullptr);
uint64_t GpuFfnDownBytes(const GpuMatrix& down, int64_t n_tokens);

// gate = max(0, gate - mean - cut * std), with the mean and the standard deviation (of the whole
// population) of a token's m gates. gate: (n_tokens, m) f32 on the GPU. Asynchronous on `stream`;
// throws Error on launch.
void GpuCutGates(Stream& stream, float cut, int64_t n_tokens, int64_t m, float* gate);

// What becomes of gates that come from a GEMM, and of ups.
struct GpuActivateOp {
  GpuActivation activation;
  const float* gate_bias = nullptr;  // (m) or null
  const float* up = nullptr;         // (n_tokens, m); null: a plain FFN
  const float* up_bias = nullptr;    // (m) or null
  GpuRowCut activated_cut = {};      // as in GpuGateUp
};
// gate = act(gate + gate_bias) * (up + up_bias), for batches; in a plain FFN act(gate + gate_bias).
// gate: (n_tokens, m) f32 on the GPU, as all that op points to.
void GpuActivateMultiply(Stream& stream, const GpuActivateOp& op, int64_t n_tokens, int64_t m,
                         float* gate);

}  // namespace thermocline
