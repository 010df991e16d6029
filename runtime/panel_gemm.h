// Prefill's matrix products, one panel of weights at a time: dequantise a panel into scratch that
// fits the cache, multiply it by all tokens with oneDNN on the lane's own thread. A panel's size
// does not depend on the number of lanes, so neither do the results.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu_kernels/kernels.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {

inline constexpr int64_t kPanelRows = 64;      // rows of a (d_out, d_in) matrix in a panel
inline constexpr int64_t kPanelColumns = 128;  // columns of a per-neuron down matrix in a panel
inline constexpr int64_t kPanelNeurons = 512;  // its neurons that are summed at a time

// Activations of n tokens; both point to the same values, bf16 only where `use_bf16`.
struct GemmInput {
  const float* f32 = nullptr;      // (n, d_in)
  const uint16_t* bf16 = nullptr;  // (n, d_in)
  int64_t n_tokens = 0;
  int64_t d_in = 0;
};

class PanelGemm {
 public:
  PanelGemm(const KernelTable& kernels, int64_t max_d_in);
  ~PanelGemm();

  // Whether products with these weights read bf16 activations: where the CPU multiplies bf16 and
  // the weights have no more than bf16's precision anyway. F32 and F16 weights are multiplied in
  // f32.
  static bool UsesBf16(const KernelTable& kernels, DType weights);

  // out[t, r] = x[t, :] . W[r, :] for r in [row_begin, row_end), at most kPanelRows of them.
  // out: (n, ldo), column r at out + r.
  void MultiplyRows(const TensorView& w, int64_t row_begin, int64_t row_end, const GemmInput& x,
                    float* out, int64_t ldo);
  // out[t, c] = sum_i h[t, i] * W[i, c] for c in [col_begin, col_end), at most kPanelColumns of
  // them. W: (d_in, d_model), one row per neuron. out: (n, ldo).
  void MultiplyColumns(const TensorView& w, int64_t col_begin, int64_t col_end, const GemmInput& h,
                       float* out, int64_t ldo);

 private:
  struct Impl;
  const KernelTable& kernels_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline
