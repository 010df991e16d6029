// The FFN on the CPU where a predictor names the neurons (Deja Vu, arXiv:2310.17157; PowerInfer,
// arXiv:2312.12456). The gates of these neurons are computed, and up and down of those that fire.
//
// With rows of b bytes and m neurons of which p are predicted and a of those active, a token reads
// the predictor's bytes and p b + 2 a b.
#include "runtime/core/checked_math.h"
#include "runtime/device/cpu/cpu_ffn.h"

namespace thermocline {
namespace {

constexpr int64_t kInnerUnit = 8;  // rows of a predictor's first matrix that a lane takes at a time

}  // namespace

void CpuFfn::PredictInner(const Lane& lane, const FfnOp& op, int64_t n) {
  LaneScratch& mine = scratch(lane);
  const SlicePredictor& predictor = *op.predictor;
  const int64_t d_model = op.slice->d_model();
  if (predictor.signs != nullptr) {
    for (int64_t t = 0; t < n; ++t) {
      predictor.signs->Prepare(op.predictor_x + t * d_model, &mine.signs[static_cast<size_t>(t)]);
    }
    return;
  }
  const TensorView& w = predictor.layer.in_proj;
  const int64_t rank = w.rows;
  auto* inner = inner_.as<float>();
  const VectorForm form = kernels_.vector_form(w.dtype);
  const std::byte* x = rows_.Prepare(lane, form, op.predictor_x, n, d_model);
  lane.Share(rank, kInnerUnit, AlignUp(CeilDiv(rank, 2 * lane.size), kInnerUnit),
             [&](int64_t begin, int64_t end) {
               kernels_.matvec_tokens(
                   w.dtype, {w.data, w.row_stride_bytes, w.cols, x, nullptr, begin, end, inner, n,
                             rows_.PreparedStride(form, d_model), rank});
               for (int64_t t = 0; predictor.layer.relu && t < n; ++t) {
                 kernels_.activate(Activation::kRelu, inner + t * rank + begin, end - begin);
               }
             });
  lane.Sync();
  const VectorForm out_form = kernels_.vector_form(predictor.layer.out_proj.dtype);
  for (int64_t t = 0; t < n; ++t) {
    std::byte* out = mine.inner.bytes() + t * rows_.PreparedStride(out_form, rank);
    kernels_.prepare(out_form, inner + t * rank, rank, out);
  }
  lane.Mark(PassPart::kPredict);
}

int64_t CpuFfn::PredictRows(const Part& part, int64_t token, int64_t begin, int64_t end,
                            float* scores) const {
  const SlicePredictor& predictor = *part.op.predictor;
  const OperatingPoint& point = predictor.layer.points.front();
  if (predictor.signs != nullptr) {
    predictor.signs->Score(part.signs[token], begin, end, part.rows, scores);
    for (int64_t i = begin; i < end; ++i) scores[i] -= point.predictor_threshold;
  } else {
    const TensorView& w = predictor.layer.out_proj;
    const VectorForm form = kernels_.vector_form(w.dtype);
    kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols,
                    part.inner + token * rows_.PreparedStride(form, w.cols), nullptr, begin, end,
                    scores);
    if (point.bias != nullptr) kernels_.add(scores + begin, point.bias + begin, end - begin);
  }
  kernels_.activate(Activation::kRelu, scores + begin, end - begin);
  return kernels_.compact_nonzero(scores + begin, end - begin, static_cast<int32_t>(begin),
                                  part.rows);
}

FfnCount CpuFfn::RunPredictedPart(const Part& part, int64_t token, int64_t begin,
                                  int64_t end) const {
  float* up = part.state.up + token * part.op.slice->n_neurons;
  FfnCount count;
  if (part.op.audit) count.missed = CountActive(part, token, begin, end);
  count.gates = PredictRows(part, token, begin, end, up);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kPredict);
  if (static_cast<double>(count.gates) > kListEfficiency * static_cast<double>(end - begin)) {
    count = {.gates = end - begin, .active = RunExactPart(part, token, begin, end)};
    if (part.op.audit) count.hits = count.active;
    return count;
  }
  count.active = RunListed(part, token, count.gates, up + begin);
  if (part.op.audit) {
    count.hits = count.active;
    count.missed -= count.active;
  }
  return count;
}

int64_t CpuFfn::RunListed(const Part& part, int64_t token, int64_t n, float* up) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& gate = slice.gate;
  float* h = part.h;
  int32_t* rows = part.rows;
  kernels_.matvec(gate.dtype, gate.data, gate.row_stride_bytes, gate.cols,
                  part.gate_x + token * part.gate_x_stride, rows, 0, n, h);
  for (int64_t i = 0; slice.gate_bias != nullptr && i < n; ++i) {
    h[i] += slice.gate_bias[rows[i]];
  }
  AddLowRank(part, CpuLowRank::Target::kGate, token, rows, 0, n, h);
  ActivateGates(kernels_, part.op, h, n);
  int64_t n_active = 0;
  for (int64_t i = 0; i < n; ++i) {
    rows[n_active] = rows[i];
    h[n_active] = h[i];
    n_active += h[i] != 0 ? 1 : 0;
  }
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  RunActive(part, token, n_active, up);
  return n_active;
}

// Counts all neurons of [begin, end) that fire.
int64_t CpuFfn::CountActive(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const float* gate = part.state.gate + token * part.op.slice->n_neurons;
  GateRows(part, token, 1, begin, end);
  return kernels_.compact_nonzero(gate + begin, end - begin, static_cast<int32_t>(begin),
                                  part.rows);
}

}  // namespace thermocline
