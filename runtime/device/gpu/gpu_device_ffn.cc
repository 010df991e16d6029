// The FFN of the neurons in a GPU's memory.
#include "gpu_kernels/products/matvec.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "gpu_kernels/tokens/norms.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/gpu/gpu_rows.h"

namespace thermocline {
namespace {

// What becomes of gates and ups in `state`.
GpuActivateOp ActivateOf(const FfnOp& op, const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  // What is cut has its bias already.
  const float* const gate_bias = op.cuts_gates ? nullptr : slice.gate_bias;
  return {ActivationOf(op), gate_bias, slice.is_gated() ? state.up : nullptr, slice.up_bias};
}

}  // namespace

FfnCount GpuDevice::Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                        const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const bool listed = op.predictor != nullptr && n <= kMaxKeptTokens;
  const bool per_neuron = slice.down_layout == DownLayout::kPerNeuron;
  const GpuSkip skip = op.skip_inactive && per_neuron ? GpuSkip::kInactive : GpuSkip::kNothing;
  notes_[static_cast<size_t>(op.layer)] = {
      n, slice.n_neurons, skip == GpuSkip::kInactive && !IsBatch(n), listed, listed && op.audit};
  if (IsBatch(n)) {
    ForgetPrepared();
    BatchFfn(lane, op, x, n, state);
    return {};
  }
  const GpuVectors& vectors = PreparedOrPrepare(x, n, slice.gate.cols);
  GpuNeuronList list;
  if (listed) {
    list = ListPredicted(op, vectors, x, n, state);
    lane.Mark(PassPart::kPredict);
  }
  GateAndUp(op, list, skip, vectors, x, n, state);
  NormHidden(op, n, state);
  lane.Mark(PassPart::kGate);
  Down(op, skip, n, state);
  AddToDown(op, state);
  lane.Mark(PassPart::kDown);
  return {};  // known when it is finished: CountOf
}

void GpuDevice::BatchFfn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                         const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const GpuBatch& batch = PrepareBatch(x, n, slice.gate.cols);
  GpuBatchRows(stream_, *gemm_, MatrixOf(slice.gate), nullptr, batch, n, Panel(), state.gate);
  if (slice.is_gated()) {
    GpuBatchRows(stream_, *gemm_, MatrixOf(slice.up), nullptr, batch, n, Panel(), state.up);
  }
  AddToGateAndUp(op, x, state, GpuLowRankInto::kAdd);
  CutGates(op, n, state);
  GpuActivateMultiply(stream_, ActivateOf(op, state), n, slice.n_neurons, state.gate);
  NormHidden(op, n, state);
  lane.Mark(PassPart::kGate);
  const GpuBatch& h = PrepareBatch(state.gate, n, slice.n_neurons);
  if (slice.down_layout == DownLayout::kStock) {
    GpuBatchRows(stream_, *gemm_, MatrixOf(slice.down), nullptr, h, n, Panel(), state.y);
  } else {
    GpuBatchColumns(stream_, *gemm_, MatrixOf(slice.down), h, n, Panel(), state.y);
  }
  AddToDown(op, state);
  lane.Mark(PassPart::kDown);
}

GpuNeuronList GpuDevice::ListPredicted(const FfnOp& op, const GpuVectors& vectors, const float* x,
                                       int64_t n, const FfnState& state) {
  CHECK(predictor_ != nullptr && op.skip_inactive);
  const FfnSlice& slice = *op.slice;
  const GpuPredictor::Input input{op.predictor_x, op.predictor_x == x ? &vectors : nullptr, n};
  GpuLayerCounts* const counts = CountsAt(op.layer);
  const GpuNeuronList list =
      predictor_->List(stream_, *op.predictor, input, slice.n_neurons, state.up, counts);
  if (!op.audit) return list;
  const GpuMatvecOp gates{MatrixOf(slice.gate), nullptr, state.up};
  GpuMatvec(stream_, {&gates, 1}, vectors, n);
  AddToAuditedGates(op, x, state.up);
  GpuAuditList(stream_, list, state.up, slice.gate_bias, ActivationOf(op), n, slice.n_neurons,
               &counts->audit);
  return list;
}

void GpuDevice::GateAndUp(const FfnOp& op, const GpuNeuronList& list, GpuSkip skip,
                          const GpuVectors& vectors, const float* x, int64_t n,
                          const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const bool together = !slice.is_gated() || slice.gate.dtype == slice.up.dtype;
  if (together && op.cuts_gates && op.adapters.empty()) {
    const GpuMatvecOp gates{MatrixOf(slice.gate), nullptr, state.gate};
    GpuMatvec(stream_, {&gates, 1}, vectors, n);
    CutGates(op, n, state);
    const GpuGateUp weights{.gate = MatrixOf(slice.gate),
                            .up = MatrixOf(slice.up),
                            .up_bias = slice.up_bias,
                            .activation = ActivationOf(op),
                            .gates = state.gate};
    GpuFfnGateUp(stream_, weights, skip, list, vectors, n, state.gate);
    return;
  }
  if (together && !op.cuts_gates) {
    const AddedToFfn added = AddToGateAndUp(op, x, state, GpuLowRankInto::kReplace);
    const GpuGateUp weights{
        MatrixOf(slice.gate), MatrixOf(slice.up), slice.gate_bias, slice.up_bias,
        ActivationOf(op),     added.gate,         added.up};
    GpuFfnGateUp(stream_, weights, skip, list, vectors, n, state.gate);
    return;
  }
  // What no kernel takes together: everything is computed, and what nobody wants dropped.
  const GpuMatvecOp both[] = {{MatrixOf(slice.gate), nullptr, state.gate},
                              {MatrixOf(slice.up), nullptr, state.up}};
  GpuMatvec(stream_, both, vectors, n);
  AddToGateAndUp(op, x, state, GpuLowRankInto::kAdd);
  CutGates(op, n, state);
  GpuActivateMultiply(stream_, ActivateOf(op, state), n, slice.n_neurons, state.gate);
  if (list.rows != nullptr) GpuDropUnwanted(stream_, list, n, slice.n_neurons, state.gate);
}

void GpuDevice::CutGates(const FfnOp& op, int64_t n, const FfnState& state) {
  if (!op.cuts_gates) return;
  const FfnSlice& slice = *op.slice;
  if (slice.gate_bias != nullptr) {
    GpuAddBias(stream_, state.gate, slice.gate_bias, n, slice.n_neurons);
  }
  GpuCutGates(stream_, op.gate_cut, n, slice.n_neurons, state.gate);
}

void GpuDevice::NormHidden(const FfnOp& op, int64_t n, const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  if (slice.h_norm == nullptr) return;
  const GpuNorm norm{GpuNormKind::kRms, slice.h_norm, nullptr, op.h_norm_eps};
  GpuNormRows(stream_, norm, state.gate, n, slice.n_neurons, state.gate);
}

void GpuDevice::Down(const FfnOp& op, GpuSkip skip, int64_t n, const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  if (slice.down_layout == DownLayout::kStock) {
    const GpuMatvecOp down{MatrixOf(slice.down), nullptr, state.y};
    GpuMatvec(stream_, {&down, 1}, Prepare(state.gate, n, slice.n_neurons), n);
    return;
  }
  GpuFfnDown(stream_, MatrixOf(slice.down), skip, state.gate, n, ffn_scratch_.as<void>(), state.y,
             &CountsAt(op.layer)->active, op.fired);
}

}  // namespace thermocline
