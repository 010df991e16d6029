// Prefill's matrix products, one panel of weights at a time. A panel is packed (or dequantised)
// into scratch that fits a core's cache and multiplied by all tokens, on the lane's own thread. The
// results do not depend on the number of lanes, nor on the batch where kernels of ours do it.
// Elsewhere oneDNN does it.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/cpu/onednn_gemm.h"

namespace thermocline {

inline constexpr int64_t kPanelRows = 64;      // rows of a (d_out, d_in) matrix in a panel
inline constexpr int64_t kPanelColumns = 128;  // columns of a per-neuron down matrix in a panel

// Activations of n tokens.
struct GemmInput {
  GemmForm form = GemmForm::kF32;
  const std::byte* data = nullptr;  // prepared by GemmKernels; (n, d_in) f32 where there are none
  int64_t n_tokens = 0;
  int64_t d_in = 0;
};

class PanelGemm {
 public:
  PanelGemm(const KernelTable& kernels, int64_t max_d_in);

  // Bytes of one lane's panels, and of the activations that all lanes share.
  static uint64_t PanelBytes(const KernelTable& kernels, int64_t max_d_in);
  static uint64_t InputBytes(const KernelTable& kernels, int64_t max_tokens, int64_t max_d_in);
  // Which activations are read by products along the rows of these weights, and by sums over their
  // rows.
  static GemmForm RowsForm(const KernelTable& kernels, DType weights);
  static GemmForm ColumnsForm(const KernelTable& kernels, DType weights);

  // out[t, r] = x[t, :] . W[r, :] for r in [row_begin, row_end), at most kPanelRows of them.
  // out: (n, ldo), column r at out + r. ahead: the panel after this one, if any.
  void MultiplyRows(const TensorView& w, int64_t row_begin, int64_t row_end, const GemmInput& x,
                    float* out, int64_t ldo, const RowsAhead& ahead = {});
  // out[t, c] = sum_i h[t, i] * W[i, c] for c in [col_begin, col_end), at most kPanelColumns of
  // them. W: (d_in, d_model), one row per neuron. out: (n, ldo).
  void MultiplyColumns(const TensorView& w, int64_t col_begin, int64_t col_end, const GemmInput& h,
                       float* out, int64_t ldo);

 private:
  // Packs and multiplies a panel of the kernels, part by part of k. w: its rows.
  void PackAndMultiply(const TensorView& w, const GemmInput& x, float* out, int64_t ldo,
                       const RowsAhead& ahead);

  const KernelTable& kernels_;
  AlignedBuffer panel_;
  std::unique_ptr<OneDnnGemm> library_;  // where kernels_.gemm is null
};

// Returns the panel of `w` that begins at a row; nothing where the matrix has ended.
RowsAhead PanelAhead(const TensorView& w, int64_t row_begin);

}  // namespace thermocline
