// The FFN on the CPU: h_i = act(gate_i . x) * (up_i . x), y = sum_i h_i down_i over the slice's
// neurons.
//
// Bytes per token, rows of b bytes, m neurons of which a are active: dense 3 m b; exact m b + 2 a
// b.
#include <algorithm>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/cpu_device.h"

namespace thermocline {
namespace {
constexpr int64_t kNeuronUnit = 32;  // a cluster: what a lane's share of the neurons is cut at
}  // namespace

int64_t CpuDevice::Ffn(const Lane& lane, const FfnStep& step, const float* x, int64_t n,
                       const FfnState& state) {
  const FfnSlice& slice = *step.slice;
  const int64_t m = slice.n_neurons;
  const int64_t d_model = slice.gate.cols;
  if (n >= (step.skip_inactive ? kGemmMinTokens : MinGemmTokens())) {
    FfnPanels(lane, step, x, n, state);
    return n * m;
  }
  CHECK(!step.skip_inactive || slice.down_layout == DownLayout::kPerNeuron);
  int64_t n_active = 0;
  for (int64_t t = 0; t < n; ++t) {
    FfnState token = state;
    token.gate += t * m;
    token.up += t * m;
    token.y += t * d_model;
    if (step.skip_inactive) {
      n_active += FfnExactToken(lane, step, x + t * d_model, token);
    } else {
      FfnDenseToken(lane, step, x + t * d_model, token);
      n_active += m;
    }
  }
  return n_active;
}

void CpuDevice::GateRows(const Lane& lane, const FfnStep& step, const float* x, int64_t begin,
                         int64_t end, float* gate) {
  const FfnSlice& slice = *step.slice;
  const TensorView& w = slice.gate;
  const std::byte* prepared = Prepare(lane, kernels_.vector_form(w.dtype), x, w.cols);
  kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols, prepared, nullptr, begin, end, gate);
  if (slice.gate_bias != nullptr) kernels_.add(gate + begin, slice.gate_bias + begin, end - begin);
  kernels_.activate(step.activation, gate + begin, end - begin);
}

void CpuDevice::FfnDenseToken(const Lane& lane, const FfnStep& step, const float* x,
                              const FfnState& state) {
  const FfnSlice& slice = *step.slice;
  const auto [begin, end] = lane.Split(slice.n_neurons, kNeuronUnit);
  GateRows(lane, step, x, begin, end, state.gate);
  const TensorView& up = slice.up;
  const std::byte* prepared = Prepare(lane, kernels_.vector_form(up.dtype), x, up.cols);
  kernels_.matvec(up.dtype, up.data, up.row_stride_bytes, up.cols, prepared, nullptr, begin, end,
                  state.up);
  kernels_.multiply(state.gate + begin, state.up + begin, end - begin);
  lane.Sync();

  const TensorView& down = slice.down;
  if (slice.down_layout == DownLayout::kStock) {
    const std::byte* h = Prepare(lane, kernels_.vector_form(down.dtype), state.gate, down.cols);
    const auto [first, last] = lane.Split(down.rows, 8);
    kernels_.matvec(down.dtype, down.data, down.row_stride_bytes, down.cols, h, nullptr, first,
                    last, state.y);
  } else {
    const auto [first, last] = lane.Split(down.cols, kQuantBlock);
    std::fill(state.y + first, state.y + last, 0.0F);
    kernels_.accumulate_rows(down.dtype, down.data, down.row_stride_bytes, state.gate, nullptr,
                             slice.n_neurons, first, last, state.y);
  }
  lane.Sync();
}

// Three passes, the lanes meeting between them: gate for all neurons and the list of active ones;
// up for the listed, shared out evenly over the whole list (active neurons crowd where the hot ones
// lie); down for the listed, shared out by columns, so that each column is one sum in list order,
// whatever the lanes.
int64_t CpuDevice::FfnExactToken(const Lane& lane, const FfnStep& step, const float* x,
                                 const FfnState& state) {
  const FfnSlice& slice = *step.slice;
  LaneScratch& mine = scratch(lane);
  const auto [begin, end] = lane.Split(slice.n_neurons, kNeuronUnit);
  GateRows(lane, step, x, begin, end, state.gate);
  mine.n_active = kernels_.compact_nonzero(state.gate + begin, end - begin,
                                           static_cast<int32_t>(begin), mine.indices.as<int32_t>());
  lane.Sync();

  int64_t n_active = 0;
  for (int i = 0; i < lane.size; ++i) n_active += lanes_[static_cast<size_t>(i)]->n_active;
  const auto [list_begin, list_end] = lane.Split(n_active);
  UpActive(lane, slice, x, list_begin, list_end, state);
  lane.Sync();

  const TensorView& down = slice.down;
  const auto [first, last] = lane.Split(down.cols, kQuantBlock);
  std::fill(state.y + first, state.y + last, 0.0F);
  kernels_.accumulate_rows(down.dtype, down.data, down.row_stride_bytes, state.h, state.rows,
                           n_active, first, last, state.y);
  lane.Sync();
  return n_active;
}

void CpuDevice::UpActive(const Lane& lane, const FfnSlice& slice, const float* x, int64_t begin,
                         int64_t end, const FfnState& state) {
  const TensorView& up = slice.up;
  const std::byte* prepared = Prepare(lane, kernels_.vector_form(up.dtype), x, up.cols);
  int64_t segment_begin = 0;  // position in the token's list of the lane's first entry
  for (int i = 0; i < lane.size; ++i) {
    LaneScratch& segment = *lanes_[static_cast<size_t>(i)];
    const auto* rows = segment.indices.as<int32_t>();
    const int64_t first = std::max<int64_t>(begin - segment_begin, 0);
    const int64_t last = std::min(end - segment_begin, segment.n_active);
    if (first < last) {
      float* h = state.h + segment_begin;
      kernels_.matvec(up.dtype, up.data, up.row_stride_bytes, up.cols, prepared, rows, first, last,
                      h);
      for (int64_t j = first; j < last; ++j) h[j] *= state.gate[rows[j]];
      std::memcpy(state.rows + segment_begin + first, rows + first,
                  static_cast<size_t>(last - first) * sizeof(int32_t));
    }
    segment_begin += segment.n_active;
  }
}

}  // namespace thermocline
