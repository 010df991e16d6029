// The FFN on the CPU: h_i = act(gate_i . x) * (up_i . x), y = sum_i h_i down_i over the slice's
// neurons.
//
// With rows of b bytes and m neurons of which a are active, a token reads 3 m b bytes dense and m b
// + 2 a b exact.
#include "runtime/device/cpu/cpu_ffn.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {
constexpr int64_t kNeuronUnit = 32;       // a cluster: what a lane's share of the neurons is cut at
constexpr uint64_t kPartBytes = 1 << 20;  // of weights, dense, that make a part worth its own sum
constexpr int64_t kMinParts = 8;
// Bytes of gate weights, and as many of up, taken at a time. What several tokens pass over stays in
// L2; for one token it is longer, since a stream costs some time to start.
constexpr int64_t kFfnChunkBytes = 128 << 10;
constexpr int64_t kFfnStreamBytes = 512 << 10;
// Bytes taken at a time where a predictor leaves out most of the neurons.
constexpr int64_t kFfnListBytes = 512 << 10;

int64_t NumParts(const FfnSlice& slice) {
  const auto by_bytes = static_cast<int64_t>(slice.weight_bytes() / kPartBytes);
  const int64_t units = CeilDiv(slice.n_neurons, kNeuronUnit);
  return std::min(units, std::clamp(by_bytes, kMinParts, kFfnParts));
}

// Returns the bytes of the vectors between a predictor's matrices: those that one lane prepares,
// and below, those of all lanes as they are.
uint64_t LaneInnerBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  if (limits.max_rank == 0) return 0;
  return PreparedVectorBytes(kernels, limits.max_rank) *
         static_cast<uint64_t>(limits.MaxRowTokens());
}
uint64_t InnerBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(limits.MaxRowTokens() * limits.max_rank) * sizeof(float);
}

uint64_t RowsBytes(int64_t max_neurons) {
  return static_cast<uint64_t>(max_neurons + 16) * sizeof(int32_t);
}
uint64_t HBytes(int64_t max_neurons) { return static_cast<uint64_t>(max_neurons) * sizeof(float); }
uint64_t PartialBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(kFfnParts * limits.MaxRowTokens() * limits.d_model) * sizeof(float);
}

}  // namespace

CpuFfn::CpuFfn(const KernelTable& kernels, const CpuDeviceLimits& limits, CpuRows& rows,
               CpuGemm& gemm)
    : kernels_(kernels),
      rows_(rows),
      gemm_(gemm),
      partial_(PartialBytes(limits), "FFN outputs"),
      part_counts_(kFfnParts),
      inner_(InnerBytes(limits), "the predictor") {
  for (int i = 0; i < limits.n_lanes; ++i) {
    LaneScratch& lane = lanes_.emplace_back();
    lane.rows = AlignedBuffer(RowsBytes(limits.max_neurons), "neuron lists");
    lane.h = AlignedBuffer(HBytes(limits.max_neurons), "FFN activations");
    lane.inner = AlignedBuffer(LaneInnerBytes(kernels, limits), "the predictor");
    if (limits.predicts) lane.signs.resize(static_cast<size_t>(limits.MaxRowTokens()));
  }
}

uint64_t CpuFfn::Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  const uint64_t per_lane =
      LaneInnerBytes(kernels, limits) + RowsBytes(limits.max_neurons) + HBytes(limits.max_neurons);
  return per_lane * static_cast<uint64_t>(limits.n_lanes) + PartialBytes(limits) +
         InnerBytes(limits);
}

FfnCount CpuFfn::Run(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                     const FfnState& state) {
  // Few tokens go over neurons row by row, dense as well as exact, so that dense and exact give the
  // same bits.
  const bool per_neuron = op.slice->down_layout == DownLayout::kPerNeuron;
  const bool predicted = op.predictor != nullptr && n <= kListMaxTokens;
  if (n >= (per_neuron ? kGemmMinTokens : MinPanelTokens(kernels_)) && !predicted) {
    gemm_.Ffn(lane, op, x, n, state);
    const int64_t all = n * op.slice->n_neurons;
    return {.tokens = 0, .gates = all, .active = all};
  }
  if (per_neuron) return Neurons(lane, op, x, n, state);
  CHECK(!op.skip_inactive && op.predictor == nullptr);
  StockRows(lane, op, x, n, state);
  const int64_t all = n * op.slice->n_neurons;
  return {.tokens = n, .gates = all, .active = all};
}

void CpuFfn::GateRows(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& w = slice.gate;
  float* gate = part.state.gate + token * slice.n_neurons;
  kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols,
                  part.gate_x + token * part.gate_x_stride, nullptr, begin, end, gate);
  if (slice.gate_bias != nullptr) kernels_.add(gate + begin, slice.gate_bias + begin, end - begin);
  kernels_.activate(part.op.activation, gate + begin, end - begin);
}

void CpuFfn::UpRows(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& w = slice.up;
  float* up = part.state.up + token * slice.n_neurons;
  kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols, part.up_x + token * part.up_x_stride,
                  nullptr, begin, end, up);
  kernels_.multiply(part.state.gate + token * slice.n_neurons + begin, up + begin, end - begin);
}

// Prepares the tokens for gate and up, in one go where the two want the same form.
CpuFfn::Part CpuFfn::MakePart(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                              const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t d = slice.gate.cols;
  const VectorForm gate_form = kernels_.vector_form(slice.gate.dtype);
  const VectorForm up_form = kernels_.vector_form(slice.up.dtype);
  LaneScratch& mine = scratch(lane);
  Part part{op,
            state,
            n,
            nullptr,
            rows_.PreparedStride(gate_form, d),
            nullptr,
            rows_.PreparedStride(up_form, d),
            mine.rows.as<int32_t>(),
            mine.h.as<float>(),
            mine.inner.bytes(),
            mine.signs.data(),
            nullptr,
            lane.timer};
  part.gate_x = rows_.Prepare(lane, gate_form, x, n, d);
  part.up_x = up_form == gate_form ? part.gate_x : rows_.Prepare(lane, up_form, x, n, d, 1);
  return part;
}

void CpuFfn::StockRows(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                       const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t m = slice.n_neurons;
  const Part part = MakePart(lane, op, x, n, state);
  const int64_t chunk_bytes = n == 1 ? kFfnStreamBytes : kFfnChunkBytes;
  const int64_t grain = AlignUp(CeilDiv(chunk_bytes, slice.gate.row_stride_bytes), kNeuronUnit);
  lane.Share(m, kNeuronUnit, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < n; ++t) {
      GateRows(part, t, begin, end);
      UpRows(part, t, begin, end);
    }
  });
  lane.Sync(PassPart::kGate);
  const LinearWeights down{slice.down, nullptr};
  const LinearOp ops[] = {{&down, state.y}};
  rows_.Linear(lane, ops, state.gate, n);
  lane.Sync(PassPart::kDown);
}

// One lane runs gate, up and down of a part of the neurons in one go. The lanes meet once, and the
// parts' outputs are added. Nothing of width d_ff is waited for.
FfnCount CpuFfn::Neurons(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                         const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t m = slice.n_neurons;
  const int64_t d_model = slice.gate.cols;
  const int64_t units = CeilDiv(m, kNeuronUnit);
  const int64_t n_parts = NumParts(slice);
  if (op.predictor != nullptr) PredictInner(lane, op, n);
  const Part common = MakePart(lane, op, x, n, state);
  lane.Share(n_parts, 1, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      Part part = common;
      part.partial = partial_.as<float>() + p * n * d_model;
      const int64_t begin = units * p / n_parts * kNeuronUnit;
      const int64_t end = std::min(units * (p + 1) / n_parts * kNeuronUnit, m);
      part_counts_[static_cast<size_t>(p)] = RunPart(part, begin, end);
    }
  });
  lane.Sync(PassPart::kDown);

  const auto [begin, end] = lane.Split(n * d_model, 16);
  std::copy(partial_.as<float>() + begin, partial_.as<float>() + end, state.y + begin);
  for (int64_t p = 1; p < n_parts; ++p) {
    kernels_.add(state.y + begin, partial_.as<float>() + p * n * d_model + begin, end - begin);
  }
  FfnCount count{.tokens = n};
  for (int64_t p = 0; p < n_parts; ++p) count.Add(part_counts_[static_cast<size_t>(p)]);
  lane.Sync(PassPart::kDown);
  return count;
}

// Takes several tokens over some neurons while their weights are in cache.
FfnCount CpuFfn::RunPart(const Part& part, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  std::fill_n(part.partial, part.n_tokens * slice.gate.cols, 0.0F);
  const int64_t bytes = part.op.predictor != nullptr ? kFfnListBytes : kFfnChunkBytes;
  const int64_t span = part.n_tokens == 1
                           ? end - begin
                           : AlignUp(CeilDiv(bytes, slice.gate.row_stride_bytes), kNeuronUnit);
  FfnCount count;
  for (int64_t at = begin; at < end; at += span) {
    for (int64_t t = 0; t < part.n_tokens; ++t) {
      count.Add(RunSpan(part, t, at, std::min(at + span, end)));
    }
  }
  return count;
}

FfnCount CpuFfn::RunSpan(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  if (part.op.predictor != nullptr) return RunPredictedPart(part, token, begin, end);
  if (part.op.skip_inactive) {
    return {.gates = end - begin, .active = RunExactPart(part, token, begin, end)};
  }
  RunDensePart(part, token, begin, end);
  return {.gates = end - begin, .active = end - begin};
}

void CpuFfn::RunDensePart(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& down = slice.down;
  GateRows(part, token, begin, end);
  UpRows(part, token, begin, end);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  kernels_.accumulate_rows(down.dtype, down.row(begin), down.row_stride_bytes,
                           part.state.gate + token * slice.n_neurons + begin, nullptr, end - begin,
                           0, down.cols, part.partial + token * down.cols);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
}

// Computes all gates, and reads up and down rows of the neurons that fire.
int64_t CpuFfn::RunExactPart(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const float* gate = part.state.gate + token * part.op.slice->n_neurons;
  GateRows(part, token, begin, end);
  const int64_t n_active =
      kernels_.compact_nonzero(gate + begin, end - begin, static_cast<int32_t>(begin), part.rows);
  for (int64_t i = 0; i < n_active; ++i) part.h[i] = gate[part.rows[i]];
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  RunActive(part, token, n_active, part.state.up + token * part.op.slice->n_neurons + begin);
  return n_active;
}

// Computes up and down rows of part.rows, whose gates are in part.h. up: (n_active) scratch.
void CpuFfn::RunActive(const Part& part, int64_t token, int64_t n_active, float* up) const {
  const TensorView& w = part.op.slice->up;
  const TensorView& down = part.op.slice->down;
  kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols, part.up_x + token * part.up_x_stride,
                  part.rows, 0, n_active, up);
  kernels_.multiply(part.h, up, n_active);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kUp);
  kernels_.accumulate_rows(down.dtype, down.data, down.row_stride_bytes, part.h, part.rows,
                           n_active, 0, down.cols, part.partial + token * down.cols);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
}

}  // namespace thermocline
