#include "predictor/scorer.h"

#include <algorithm>

namespace thermocline {
namespace {

AlignedBuffer PreparedBuffer(const KernelTable& kernels, const TensorView& w) {
  const int64_t n_bytes = kernels.prepared_bytes(kernels.vector_form(w.dtype), w.cols);
  return {static_cast<uint64_t>(n_bytes), "predictor scratch"};
}

}  // namespace

LowRankScorer::LowRankScorer(const KernelTable& kernels, const LayerPredictor& predictor)
    : kernels_(kernels),
      predictor_(predictor),
      x_(PreparedBuffer(kernels, predictor.in_proj)),
      inner_(static_cast<uint64_t>(predictor.in_proj.rows) * sizeof(float), "predictor scratch"),
      z_(PreparedBuffer(kernels, predictor.out_proj)) {}

void LowRankScorer::Score(const float* x, float* scores) {
  const TensorView& in = predictor_.in_proj;
  const TensorView& out = predictor_.out_proj;
  auto* inner = inner_.as<float>();
  kernels_.prepare(kernels_.vector_form(in.dtype), x, in.cols, x_.bytes());
  kernels_.matvec(in.dtype, in.data, in.row_stride_bytes, in.cols, x_.bytes(), nullptr, 0, in.rows,
                  inner);
  if (predictor_.relu) kernels_.activate(Activation::kRelu, inner, in.rows);
  kernels_.prepare(kernels_.vector_form(out.dtype), inner, out.cols, z_.bytes());
  kernels_.matvec(out.dtype, out.data, out.row_stride_bytes, out.cols, z_.bytes(), nullptr, 0,
                  out.rows, scores);
}

}  // namespace thermocline
