// The FFN on the CPU: h_i = act(gate_i . x) * (up_i . x), y = sum_i h_i down_i over the slice's
// neurons.
//
// With rows of b bytes and m neurons of which a are active, a token reads 3 m b bytes dense and m b
// + 2 a b exact.
#include "runtime/device/cpu/cpu_ffn.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {
constexpr int64_t kNeuronUnit = 32;       // a cluster: what a lane's share of the neurons is cut at
constexpr uint64_t kPartBytes = 1 << 20;  // of weights, dense, that make a part worth its own sum
constexpr int64_t kMinParts = 8;
// Bytes of gate weights, and as many of up, taken at a time. What several tokens may pass over one
// by one stays in L2; else it is longer, since a stream costs some time to start.
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
uint64_t HBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(limits.MaxRowTokens() * limits.max_neurons) * sizeof(float);
}
uint64_t PartialBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(kFfnParts * limits.MaxRowTokens() * limits.d_model) * sizeof(float);
}

uint64_t PartLowRankBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(kFfnParts * limits.MaxRowTokens() * limits.adapter_rank) *
         sizeof(float);
}

// Where models run with thresholds anyway, down takes the kernel that rounds h by its neighbours in
// the list: where zeros are many, they are better left out of it, which then changes no bit.
bool RoundsHidden(const FfnOp& op) { return op.slice->by_column && !HasTrueZeros(op.activation); }

}  // namespace

CpuFfn::CpuFfn(const KernelTable& kernels, const CpuDeviceLimits& limits, CpuRows& rows,
               CpuGemm& gemm, CpuLowRank& low_rank, CpuChannels& channels)
    : kernels_(kernels),
      rows_(rows),
      gemm_(gemm),
      low_rank_(low_rank),
      channels_(channels),
      partial_(PartialBytes(limits), "FFN outputs"),
      part_counts_(kFfnParts),
      part_squares_(static_cast<size_t>(kFfnParts * limits.MaxRowTokens())),
      part_low_rank_(PartLowRankBytes(limits), "adapters"),
      adapter_rank_(limits.adapter_rank),
      max_row_tokens_(limits.MaxRowTokens()),
      inner_(InnerBytes(limits), "the predictor") {
  for (int i = 0; i < limits.n_lanes; ++i) {
    LaneScratch& lane = lanes_.emplace_back();
    lane.rows = AlignedBuffer(RowsBytes(limits.max_neurons), "neuron lists");
    lane.h = AlignedBuffer(HBytes(limits), "FFN activations");
    lane.inner = AlignedBuffer(LaneInnerBytes(kernels, limits), "the predictor");
    lane.low_rank.resize(static_cast<size_t>(limits.adapter_rank));
    if (limits.predicts) lane.signs.resize(static_cast<size_t>(limits.MaxRowTokens()));
  }
}

uint64_t CpuFfn::Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  const uint64_t per_lane =
      LaneInnerBytes(kernels, limits) + RowsBytes(limits.max_neurons) + HBytes(limits);
  return per_lane * static_cast<uint64_t>(limits.n_lanes) + PartialBytes(limits) +
         InnerBytes(limits) + PartLowRankBytes(limits);
}

FfnCount CpuFfn::Run(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                     const FfnState& state) {
  // Few tokens go over neurons row by row, dense as well as exact, so that dense and exact give the
  // same bits.
  const bool per_neuron = op.slice->down_layout == DownLayout::kPerNeuron;
  const bool predicted = op.predictor != nullptr && n <= kListMaxTokens;
  if (!op.adapters.empty()) low_rank_.PrepareFfn(lane, op, x, n);
  DCHECK(op.skip_rows <= kMostSkipRows);
  const int64_t few = op.slice->by_column ? kGemmMinTokens - 1 : kFewTokens;
  const bool skips = op.skip_inactive && per_neuron;
  if (n > (skips ? std::max(op.skip_rows, few) : few) && !predicted) {
    gemm_.Ffn(lane, op, x, n, state);
    if (op.fired != nullptr) CountFired(lane, op, n, state);
    const int64_t all = n * op.slice->n_neurons;
    return {.tokens = 0, .gates = all, .active = all};
  }
  if (per_neuron) return Neurons(lane, op, x, n, state);
  CHECK((!op.skip_inactive || op.cuts != nullptr) && op.predictor == nullptr);
  StockRows(lane, op, x, n, state);
  const int64_t all = n * op.slice->n_neurons;
  return {.tokens = n, .gates = all, .active = all};
}

// Of a batch, whose h are all there.
void CpuFfn::CountFired(const Lane& lane, const FfnOp& op, int64_t n, const FfnState& state) {
  const int64_t m = op.slice->n_neurons;
  const auto [begin, end] = lane.Split(m, kNeuronUnit);
  for (int64_t t = 0; t < n; ++t) {
    const float* const h = state.gate + t * m;
    for (int64_t i = begin; i < end; ++i) op.fired[i] += h[i] != 0 ? 1 : 0;
  }
  lane.Sync();
}

void CpuFfn::GateProducts(const Part& part, int64_t token, int64_t n, int64_t begin,
                          int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& w = slice.gate;
  const int64_t m = slice.n_neurons;
  float* const gates = part.state.gate + token * m;
  if (!slice.by_column) {
    kernels_.matvec_tokens(
        w.dtype, {w.data, w.row_stride_bytes, w.cols, part.gate_x + token * part.gate_x_stride,
                  nullptr, begin, end, gates, n, part.gate_x_stride, m});
  }
  for (int64_t t = 0; t < n; ++t) {
    float* const gate = gates + t * m;
    if (slice.gate_bias != nullptr) {
      kernels_.add(gate + begin, slice.gate_bias + begin, end - begin);
    }
    AddLowRank(part, CpuLowRank::Target::kGate, token + t, nullptr, begin, end, gate);
  }
}

void CpuFfn::GateRows(const Part& part, int64_t token, int64_t n, int64_t begin,
                      int64_t end) const {
  if (!part.op.cuts_gates) GateProducts(part, token, n, begin, end);
  for (int64_t t = token; t < token + n; ++t) {
    float* const gate = part.state.gate + t * part.op.slice->n_neurons + begin;
    ActivateGates(kernels_, part.op, gate, end - begin);
    CutActivated(kernels_, part.op, t, begin, end - begin, gate);
  }
}

// Cutting takes all gates of a token, so they come before everything else.
void CpuFfn::CutGates(const Lane& lane, const Part& part) const {
  const FfnSlice& slice = *part.op.slice;
  const int64_t grain = AlignUp(CeilDiv(kFfnStreamBytes, slice.gate.row_stride_bytes), kNeuronUnit);
  lane.Share(slice.n_neurons, kNeuronUnit, grain,
             [&](int64_t begin, int64_t end) { GateProducts(part, 0, part.n_tokens, begin, end); });
  lane.Sync(PassPart::kGate);
  gemm_.CutGates(lane, part.op, part.n_tokens, part.state);
}

void CpuFfn::UpRows(const Part& part, int64_t token, int64_t n, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  if (!slice.is_gated()) return;
  const TensorView& w = slice.up;
  const int64_t m = slice.n_neurons;
  float* const ups = part.state.up + token * m;
  if (!slice.by_column) {
    kernels_.matvec_tokens(
        w.dtype, {w.data, w.row_stride_bytes, w.cols, part.up_x + token * part.up_x_stride, nullptr,
                  begin, end, ups, n, part.up_x_stride, m});
  }
  for (int64_t t = 0; t < n; ++t) {
    float* const up = ups + t * m;
    if (slice.up_bias != nullptr) kernels_.add(up + begin, slice.up_bias + begin, end - begin);
    AddLowRank(part, CpuLowRank::Target::kUp, token + t, nullptr, begin, end, up);
    if (part.op.relu_up) kernels_.activate(Activation::kRelu, up + begin, end - begin);
    kernels_.multiply(part.state.gate + (token + t) * m + begin, up + begin, end - begin);
  }
}

// Prepares the tokens for gate and up, in one go where the two want the same form.
CpuFfn::Part CpuFfn::MakePart(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                              const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t d = slice.d_model();
  const bool cut = op.cuts != nullptr && !op.cuts->by_gate && !slice.by_column;
  const VectorForm gate_form = kernels_.vector_form(slice.gate.dtype);
  const VectorForm up_form = slice.is_gated() ? kernels_.vector_form(slice.up.dtype) : gate_form;
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
            static_cast<int64_t>(mine.h.size() / sizeof(float)) / max_row_tokens_,
            mine.inner.bytes(),
            mine.signs.data(),
            nullptr,
            nullptr,
            lane.timer,
            lane.rank};
  if (slice.by_column) return part;  // ColumnProducts reads x itself
  const float* const gate_x = channels_.CutRows(lane, cut ? &op.cuts->gate : nullptr, x, n, d);
  part.gate_x = rows_.Prepare(lane, gate_form, gate_x, n, d);
  if (cut && slice.is_gated()) {
    const float* const up_x = channels_.CutRows(lane, &op.cuts->up, x, n, d, 1);
    part.up_x = rows_.Prepare(lane, up_form, up_x, n, d, 1);
  } else {
    part.up_x = up_form == gate_form ? part.gate_x : rows_.Prepare(lane, up_form, x, n, d, 1);
  }
  return part;
}

void CpuFfn::StockRows(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                       const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t m = slice.n_neurons;
  const Part part = MakePart(lane, op, x, n, state);
  if (op.cuts_gates) CutGates(lane, part);
  const int64_t grain = AlignUp(CeilDiv(kFfnStreamBytes, slice.gate.row_stride_bytes), kNeuronUnit);
  lane.Share(m, kNeuronUnit, grain, [&](int64_t begin, int64_t end) {
    GateRows(part, 0, n, begin, end);
    UpRows(part, 0, n, begin, end);
  });
  lane.Sync(PassPart::kGate);
  gemm_.NormHidden(lane, op, n, state);
  if (op.cuts != nullptr && !op.cuts->by_gate) {
    channels_.CutBatch(lane, &op.cuts->down, state.gate, n, m, state.gate);
  }
  const LinearWeights down{slice.down, nullptr};
  const LinearOp ops[] = {{&down, state.y}};
  rows_.Linear(lane, ops, state.gate, n);
  lane.Sync(PassPart::kDown);
  if (!op.adapters.empty()) low_rank_.AddDownOfAll(lane, op, state.gate, n, state.y);
}

// One lane runs gate, up and down of a part of the neurons in one go. The lanes meet once, and the
// parts' outputs are added. Nothing of width d_ff is waited for, but gates that are cut.
FfnCount CpuFfn::Neurons(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                         const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t m = slice.n_neurons;
  const int64_t d_model = slice.d_model();
  const int64_t units = CeilDiv(m, kNeuronUnit);
  const int64_t n_parts = NumParts(slice);
  CHECK(op.predictor == nullptr || !op.cuts_gates);
  if (op.predictor != nullptr) PredictInner(lane, op, n);
  if (slice.by_column) ColumnProducts(lane, op, x, n, state);
  const Part common = MakePart(lane, op, x, n, state);
  if (op.cuts_gates) CutGates(lane, common);
  lane.Share(n_parts, 1, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      Part part = common;
      part.partial = partial_.as<float>() + p * n * d_model;
      part.squares = part_squares_.data() + p * n;
      if (!op.adapters.empty()) {
        part.low_rank = part_low_rank_.as<float>() + p * n * adapter_rank_;
        std::fill_n(part.low_rank, n * adapter_rank_, 0.0F);
      }
      std::fill_n(part.squares, n, 0.0);
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
  if (!op.adapters.empty()) AddLowRankDown(lane, op, n, n_parts, begin, end, state.y);
  if (slice.h_norm != nullptr) DivideByNorms(op, n, n_parts, begin, end, state.y);
  FfnCount count{.tokens = n};
  for (int64_t p = 0; p < n_parts; ++p) count.Add(part_counts_[static_cast<size_t>(p)]);
  lane.Sync(PassPart::kDown);
  return count;
}

// Where up is 0, too, down is not read.
int64_t CpuFfn::DropZeros(const Part& part, int64_t n) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    part.rows[kept] = part.rows[i];
    part.h[kept] = part.h[i];
    kept += part.h[i] != 0 ? 1 : 0;
  }
  return kept;
}

void CpuFfn::WeighHidden(const Part& part, int64_t token, const int32_t* rows, int64_t first,
                         int64_t n, float* h) {
  const float* const weights = part.op.slice->h_norm;
  if (weights == nullptr) return;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += static_cast<double>(h[i]) * h[i];
    h[i] *= weights[rows == nullptr ? first + i : rows[i]];
  }
  part.squares[token] += sum;
}

void CpuFfn::DivideByNorms(const FfnOp& op, int64_t n, int64_t n_parts, int64_t begin, int64_t end,
                           float* y) const {
  const int64_t d_model = op.slice->d_model();
  for (int64_t t = begin / d_model; t < n && t * d_model < end; ++t) {
    double sum = 0;
    for (int64_t p = 0; p < n_parts; ++p) sum += part_squares_[static_cast<size_t>(p * n + t)];
    const double mean = sum / static_cast<double>(op.slice->n_neurons);
    const auto factor = static_cast<float>(1 / std::sqrt(mean + op.h_norm_eps));
    const int64_t first = std::max(begin, t * d_model);
    kernels_.scale(y + first, std::min(end, (t + 1) * d_model) - first, factor, 0);
  }
}

// Takes several tokens over some neurons while their weights are in cache.
FfnCount CpuFfn::RunPart(const Part& part, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  std::fill_n(part.partial, part.n_tokens * slice.d_model(), 0.0F);
  const bool together = part.n_tokens > 1 && TakesTogether(part);
  if (together && part.op.predictor != nullptr) return RunPredictedTokens(part, begin, end);
  const int64_t bytes = part.op.predictor != nullptr ? kFfnListBytes : kFfnChunkBytes;
  const int64_t span = part.n_tokens == 1
                           ? end - begin
                           : AlignUp(CeilDiv(bytes, slice.gate.row_stride_bytes), kNeuronUnit);
  FfnCount count;
  for (int64_t at = begin; at < end; at += span) {
    if (together) {
      count.Add(RunTokens(part, at, std::min(at + span, end)));
      continue;
    }
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
  if (part.op.cuts != nullptr && part.op.cuts->down.CutsRow(token)) {
    return {.gates = end - begin, .active = RunCutPart(part, token, begin, end)};
  }
  RunDensePart(part, token, begin, end);
  return {.gates = end - begin, .active = end - begin};
}

void CpuFfn::AddDown(const Part& part, int64_t token, const std::byte* w, const float* h,
                     const int32_t* rows, int64_t n) const {
  const TensorView& down = part.op.slice->down;
  const auto add = RoundsHidden(part.op) ? kernels_.accumulate_channels : kernels_.accumulate_rows;
  add(down.dtype, w, down.row_stride_bytes, h, rows, n, 0, down.cols,
      part.partial + token * down.cols);
}

void CpuFfn::RunDensePart(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& down = slice.down;
  GateRows(part, token, 1, begin, end);
  UpRows(part, token, 1, begin, end);
  WeighHidden(part, token, nullptr, begin, end - begin,
              part.state.gate + token * slice.n_neurons + begin);
  SumLowRank(part, token, part.state.gate + token * slice.n_neurons + begin, nullptr, begin,
             end - begin);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  AddDown(part, token, down.row(begin), part.state.gate + token * slice.n_neurons + begin, nullptr,
          end - begin);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
}

int64_t CpuFfn::RunCutPart(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const TensorView& down = part.op.slice->down;
  float* const h = part.state.gate + token * part.op.slice->n_neurons;
  GateRows(part, token, 1, begin, end);
  UpRows(part, token, 1, begin, end);
  WeighHidden(part, token, nullptr, begin, end - begin, h + begin);
  SumLowRank(part, token, h + begin, nullptr, begin, end - begin);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  const ChannelCut& cut = part.op.cuts->down;
  if (cut.least <= 0 && RoundsHidden(part.op)) {  // a dense pass's bits
    AddDown(part, token, down.row(begin), h + begin, nullptr, end - begin);
    cut.kept->fetch_add(end - begin, std::memory_order_relaxed);
    return end - begin;
  }
  const int64_t n_kept = channels_.Keep(cut, h, begin, end, part.rows, part.h);
  cut.kept->fetch_add(n_kept, std::memory_order_relaxed);
  AddDown(part, token, down.data, part.h, part.rows, n_kept);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
  return n_kept;
}

void CpuFfn::ColumnProducts(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                            const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const bool cut = op.cuts != nullptr && !op.cuts->by_gate;
  const LinearWeights gate = {.w = slice.gate, .by_column = true};
  const LinearWeights up = {.w = slice.up, .by_column = true};
  const LinearOp ops[] = {{&gate, state.gate, cut ? &op.cuts->gate : nullptr},
                          {&up, state.up, cut ? &op.cuts->up : nullptr}};
  channels_.Linear(lane, std::span(ops).first(slice.is_gated() ? 2 : 1), x, n);
  lane.Sync(PassPart::kGate);
}

// Computes all gates, and reads up and down rows of the neurons that fire.
int64_t CpuFfn::RunExactPart(const Part& part, int64_t token, int64_t begin, int64_t end) const {
  const float* gate = part.state.gate + token * part.op.slice->n_neurons;
  GateRows(part, token, 1, begin, end);
  const int64_t n_active =
      kernels_.compact_nonzero(gate + begin, end - begin, static_cast<int32_t>(begin), part.rows);
  for (int64_t i = 0; i < n_active; ++i) part.h[i] = gate[part.rows[i]];
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  RunActive(part, token, n_active, part.state.up + token * part.op.slice->n_neurons + begin);
  return n_active;
}

// Computes up and down rows of part.rows, whose gates are in part.h. up: (n_active) scratch.
void CpuFfn::RunActive(const Part& part, int64_t token, int64_t n_active, float* up) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& w = slice.up;
  const TensorView& down = slice.down;
  if (part.op.fired != nullptr) {
    // Parts share no neuron, and lanes no part.
    for (int64_t i = 0; i < n_active; ++i) ++part.op.fired[part.rows[i]];
  }
  if (slice.is_gated()) {
    if (slice.by_column) {  // ups of all neurons are there; those of the list move to its places
      const float* const all = part.state.up + token * slice.n_neurons;
      for (int64_t i = 0; i < n_active; ++i) up[i] = all[part.rows[i]];
    } else {
      kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols,
                      part.up_x + token * part.up_x_stride, part.rows, 0, n_active, up);
    }
    for (int64_t i = 0; slice.up_bias != nullptr && i < n_active; ++i) {
      up[i] += slice.up_bias[part.rows[i]];
    }
    AddLowRank(part, CpuLowRank::Target::kUp, token, part.rows, 0, n_active, up);
    if (part.op.relu_up) kernels_.activate(Activation::kRelu, up, n_active);
    kernels_.multiply(part.h, up, n_active);
  }
  if (part.op.relu_up) n_active = DropZeros(part, n_active);
  WeighHidden(part, token, part.rows, 0, n_active, part.h);
  SumLowRank(part, token, part.h, part.rows, 0, n_active);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kUp);
  kernels_.accumulate_rows(down.dtype, down.data, down.row_stride_bytes, part.h, part.rows,
                           n_active, 0, down.cols, part.partial + token * down.cols);
  if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
}

}  // namespace thermocline
