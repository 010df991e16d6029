// The FFN of the neurons in a GPU's memory.
#include <limits>

#include "gpu_kernels/products/matvec.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "gpu_kernels/tokens/norms.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/gpu/gpu_rows.h"

namespace thermocline {
namespace {

// Whether inputs of gate, up and down are cut. Where no threshold is above 0 nothing is left out.
bool CutsInputs(const FfnOp& op) {
  if (op.cuts == nullptr || op.cuts->by_gate) return false;
  return op.cuts->gate.least > 0 || op.cuts->up.least > 0 || op.cuts->down.least > 0;
}
bool CutsActivated(const FfnOp& op) { return op.cuts != nullptr && op.cuts->by_gate; }

GpuRowCut ActivatedCut(const FfnOp& op, const GpuPass& pass) {
  return CutsActivated(op) ? GpuChannels::CutOf(op.cuts->activated, pass) : GpuRowCut{};
}

// What becomes of gates and ups in `state`.
GpuActivateOp ActivateOf(const FfnOp& op, const FfnState& state, const GpuPass& pass) {
  const FfnSlice& slice = *op.slice;
  // What is cut has its bias already.
  const float* const gate_bias = op.cuts_gates ? nullptr : slice.gate_bias;
  return {ActivationOf(op), gate_bias, slice.is_gated() ? state.up : nullptr, slice.up_bias,
          ActivatedCut(op, pass)};
}

}  // namespace

FfnCount GpuDevice::Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                        const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const bool listed = op.predictor != nullptr && n <= kMaxKeptTokens;
  const bool per_neuron = slice.down_layout == DownLayout::kPerNeuron;
  const GpuSkip skip = op.skip_inactive && per_neuron ? GpuSkip::kInactive : GpuSkip::kNothing;
  const bool skips = skip == GpuSkip::kInactive || CutsInputs(op);
  notes_[static_cast<size_t>(op.layer)] = {n, slice.n_neurons, skips && !IsBatch(n), listed,
                                           listed && op.audit};
  if (IsBatch(n)) {
    ForgetPrepared();
    BatchFfn(lane, op, x, n, state);
    return {};
  }
  if (slice.by_column || CutsInputs(op)) {
    CHECK(op.predictor == nullptr);
    GateAndUpOfChannels(op, x, n, state);
    lane.Mark(PassPart::kGate);
    DownOfChannels(op, n, state);
    AddToDown(op, state);
    lane.Mark(PassPart::kDown);
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
  const bool of_channels = limits_.cuts && per_neuron && op.predictor == nullptr &&
                           (skip == GpuSkip::kNothing || CutsActivated(op));
  of_channels ? DownOfChannels(op, n, state) : Down(op, skip, n, state);
  AddToDown(op, state);
  lane.Mark(PassPart::kDown);
  return {};  // known when it is finished: CountOf
}

void GpuDevice::BatchFfn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                         const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  if (slice.by_column || CutsInputs(op)) {
    GateAndUpOfChannels(op, x, n, state);
  } else {
    const GpuBatch& batch = PrepareBatch(x, n, slice.gate.cols);
    GpuBatchRows(stream_, *gemm_, MatrixOf(slice.gate), nullptr, batch, n, Panel(), state.gate);
    if (slice.is_gated()) {
      GpuBatchRows(stream_, *gemm_, MatrixOf(slice.up), nullptr, batch, n, Panel(), state.up);
    }
    ActivateAll(op, x, n, state);
  }
  CutHidden(op, n, state);
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
                            .gates = state.gate,
                            .activated_cut = ActivatedCut(op, SentPass())};
    GpuFfnGateUp(stream_, weights, skip, list, vectors, n, state.gate);
    return;
  }
  if (together && !op.cuts_gates) {
    const AddedToFfn added = AddToGateAndUp(op, x, state, GpuLowRankInto::kReplace);
    const GpuGateUp weights{MatrixOf(slice.gate),
                            MatrixOf(slice.up),
                            slice.gate_bias,
                            slice.up_bias,
                            ActivationOf(op),
                            added.gate,
                            added.up,
                            nullptr,
                            ActivatedCut(op, SentPass())};
    GpuFfnGateUp(stream_, weights, skip, list, vectors, n, state.gate);
    return;
  }
  // What no kernel takes together: everything is computed, and what nobody wants dropped.
  const GpuMatvecOp both[] = {{MatrixOf(slice.gate), nullptr, state.gate},
                              {MatrixOf(slice.up), nullptr, state.up}};
  GpuMatvec(stream_, both, vectors, n);
  AddToGateAndUp(op, x, state, GpuLowRankInto::kAdd);
  CutGates(op, n, state);
  GpuActivateMultiply(stream_, ActivateOf(op, state, SentPass()), n, slice.n_neurons, state.gate);
  if (list.rows != nullptr) GpuDropUnwanted(stream_, list, n, slice.n_neurons, state.gate);
}

void GpuDevice::GateAndUpOfChannels(const FfnOp& op, const float* x, int64_t n,
                                    const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const bool cuts = CutsInputs(op);
  const auto multiply = [&](const TensorView& w, const ChannelCut* cut, float* out) {
    const LinearWeights weights{.w = w, .by_column = slice.by_column};
    LinearOfChannels({&weights, out, cut}, x, n);
  };
  multiply(slice.gate, cuts ? &op.cuts->gate : nullptr, state.gate);
  if (slice.is_gated()) multiply(slice.up, cuts ? &op.cuts->up : nullptr, state.up);
  ActivateAll(op, x, n, state);
}

void GpuDevice::ActivateAll(const FfnOp& op, const float* x, int64_t n, const FfnState& state) {
  AddToGateAndUp(op, x, state, GpuLowRankInto::kAdd);
  CutGates(op, n, state);
  GpuActivateMultiply(stream_, ActivateOf(op, state, SentPass()), n, op.slice->n_neurons,
                      state.gate);
  NormHidden(op, n, state);
}

// Where gates were cut, what they left 0 is.
std::pair<const ChannelCut*, GpuRowCut> GpuDevice::HiddenCut(const FfnOp& op) {
  if (CutsInputs(op)) return {&op.cuts->down, GpuChannels::CutOf(op.cuts->down, SentPass())};
  if (!CutsActivated(op)) return {nullptr, {}};
  GpuRowCut zeros = GpuChannels::CutOf(op.cuts->activated, SentPass());
  zeros.least = zeros.least > 0 ? std::numeric_limits<float>::denorm_min() : 0;
  zeros.factors = nullptr;
  return {&op.cuts->activated, zeros};
}

void GpuDevice::CutHidden(const FfnOp& op, int64_t n, const FfnState& state) {
  const auto [cut, row_cut] = HiddenCut(op);
  if (cut == nullptr) return;
  channels_->Cut(stream_, *cut, row_cut, state.gate, n, op.slice->n_neurons, state.gate);
}

void GpuDevice::DownOfChannels(const FfnOp& op, int64_t n, const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  // Where zeros are many, they are skipped as in mode exact.
  if (n >= kGemmMinTokens || HasTrueZeros(op.activation)) {
    CutHidden(op, n, state);
    return Down(op, GpuSkip::kInactive, n, state);
  }
  const auto [cut, row_cut] = HiddenCut(op);
  const GpuChannelList list = cut != nullptr
                                  ? channels_->List(stream_, *cut, row_cut, state.gate, n,
                                                    slice.n_neurons, &CountsAt(op.layer)->active)
                                  : GpuChannelList{.values = state.gate};
  channels_->Multiply(stream_, MatrixOf(slice.down), list, n, nullptr, state.y);
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
