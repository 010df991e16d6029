#include "runtime/device/cpu/cpu_gemm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {
constexpr int64_t kPanelGrain = 4;  // panels that a lane takes at a time

// Returns the sum of fn(x[i]), by several sums that do not wait for each other.
template <typename Fn>
double SumOf(const float* x, int64_t n, const Fn& fn) {
  constexpr int64_t kSums = 8;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int64_t k = 0; k < kSums; ++k) sums[k] += fn(x[i + k]);
  }
  for (; i < n; ++i) sums[0] += fn(x[i]);
  return std::accumulate(sums, sums + kSums, 0.0);
}

}  // namespace

CpuGemm::CpuGemm(const KernelTable& kernels, const CpuDeviceLimits& limits, CpuLowRank& low_rank,
                 CpuChannels& channels)
    : kernels_(kernels),
      low_rank_(low_rank),
      channels_(channels),
      input_(PanelGemm::InputBytes(kernels, limits.max_tokens, limits.max_d_in), "prefill inputs") {
  for (int i = 0; i < limits.n_lanes; ++i) {
    lanes_.push_back(std::make_unique<PanelGemm>(kernels, limits.max_d_in));
  }
}

uint64_t CpuGemm::Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  return PanelGemm::PanelBytes(kernels, limits.max_d_in) * static_cast<uint64_t>(limits.n_lanes) +
         PanelGemm::InputBytes(kernels, limits.max_tokens, limits.max_d_in);
}

GemmInput CpuGemm::MakeInput(const Lane& lane, GemmForm form, const float* x, int64_t n,
                             int64_t d) {
  GemmInput input = {form, reinterpret_cast<const std::byte*>(x), n, d};
  if (kernels_.gemm == nullptr) return input;
  input.data = input_.bytes();
  const auto [begin, end] = lane.Split(gemm_tile_count(n, kernels_.gemm->tile_tokens(form)));
  kernels_.gemm->prepare(form, x, n, d, begin, end, input_.bytes());
  lane.Sync();
  return input;
}

// Shares out matrices whose weights want the same form of activations as one list of panels.
void CpuGemm::Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) {
  const int64_t d_in = ops.front().weights->w.cols;
  PanelGemm& gemm = this->gemm(lane);
  bool first_form = true;
  for (const GemmForm form : kGemmForms) {
    const auto wanted = [&](const LinearOp& op) {
      return PanelGemm::RowsForm(kernels_, op.weights->w.dtype) == form;
    };
    int64_t n_panels = 0;
    for (const LinearOp& op : ops) {
      if (wanted(op)) n_panels += CeilDiv(op.weights->w.rows, kPanelRows);
    }
    if (n_panels == 0) continue;
    if (!first_form) lane.Sync();  // no lane reads the other form's activations any more
    first_form = false;
    const GemmInput input = MakeInput(lane, form, x, n, d_in);
    lane.Share(n_panels, 1, kPanelGrain, [&](int64_t begin, int64_t end) {
      for (const LinearOp& op : ops) {
        if (!wanted(op)) continue;
        const int64_t panels = CeilDiv(op.weights->w.rows, kPanelRows);
        for (int64_t p = std::max<int64_t>(begin, 0); p < std::min(end, panels); ++p) {
          MultiplyPanel(gemm, op, p, input);
        }
        begin -= panels;
        end -= panels;
      }
    });
  }
}

void CpuGemm::LinearByColumn(const Lane& lane, const LinearOp& op, const float* x, int64_t n) {
  const TensorView& w = op.weights->w;
  const GemmInput input = MakeInput(lane, PanelGemm::ColumnsForm(kernels_, w.dtype), x, n, w.rows);
  const auto [begin, end] = lane.Split(w.cols, kGemmPanel);
  for (int64_t col = begin; col < end; col += kPanelColumns) {
    gemm(lane).MultiplyColumns(w, col, std::min(col + kPanelColumns, end), input, op.out, w.cols);
  }
  if (op.weights->bias == nullptr) return;
  for (int64_t t = 0; t < n; ++t) {
    kernels_.add(op.out + t * w.cols + begin, op.weights->bias + begin, end - begin);
  }
}

void CpuGemm::MultiplyPanel(PanelGemm& gemm, const LinearOp& op, int64_t panel,
                            const GemmInput& input) const {
  const TensorView& w = op.weights->w;
  const int64_t first = panel * kPanelRows;
  const int64_t last = std::min(first + kPanelRows, w.rows);
  gemm.MultiplyRows(w, first, last, input, op.out, w.rows, PanelAhead(w, last));
  if (op.weights->bias == nullptr) return;
  for (int64_t t = 0; t < input.n_tokens; ++t) {
    kernels_.add(op.out + t * w.rows + first, op.weights->bias + first, last - first);
  }
}

// Runs gate and up panel by panel, so that h is made while both are in cache. Where the two want
// different activations, or gates are cut by what all of them are, the gate goes first for all
// panels.
void CpuGemm::Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                  const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t m = slice.n_neurons;
  PanelGemm& gemm = this->gemm(lane);
  const GemmForm gate_form = PanelGemm::RowsForm(kernels_, slice.gate.dtype);
  const bool gated = slice.is_gated();
  const bool cut = op.cuts != nullptr && !op.cuts->by_gate;
  if (slice.by_column || cut) {
    GatesOfChannels(lane, op, x, n, state);
    if (cut) channels_.CutBatch(lane, &op.cuts->down, state.gate, n, m, state.gate);
    DownPanels(lane, slice, n, state);
    if (!op.adapters.empty()) low_rank_.AddDownOfAll(lane, op, state.gate, n, state.y);
    return;
  }
  const GemmForm up_form = gated ? PanelGemm::RowsForm(kernels_, slice.up.dtype) : gate_form;
  const int64_t n_panels = CeilDiv(m, kPanelRows);
  GemmInput input = MakeInput(lane, gate_form, x, n, slice.gate.cols);
  const auto gate_panel = [&](int64_t p) {
    const int64_t first = p * kPanelRows;
    gemm.MultiplyRows(slice.gate, first, std::min(first + kPanelRows, m), input, state.gate, m,
                      gated ? PanelAhead(slice.up, first) : PanelAhead(slice.gate, first));
    AddToGates(lane, op, n, first, std::min(first + kPanelRows, m), state);
  };
  const bool gates_first = gate_form != up_form || op.cuts_gates;
  if (gates_first) {
    lane.Share(n_panels, 1, kPanelGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) gate_panel(p);
    });
    lane.Sync();
    if (op.cuts_gates) CutGates(lane, op, n, state);
    if (gate_form != up_form) input = MakeInput(lane, up_form, x, n, slice.up.cols);
  }
  lane.Share(n_panels, 1, kPanelGrain, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * kPanelRows;
      const int64_t last = std::min(first + kPanelRows, m);
      if (!gates_first) gate_panel(p);
      if (gated) {
        gemm.MultiplyRows(slice.up, first, last, input, state.up, m, PanelAhead(slice.gate, last));
      }
      Activate(lane, op, n, first, last, state);
    }
  });
  lane.Sync(PassPart::kGate);
  NormHidden(lane, op, n, state);
  DownPanels(lane, slice, n, state);
  if (!op.adapters.empty()) low_rank_.AddDownOfAll(lane, op, state.gate, n, state.y);
}

void CpuGemm::GatesOfChannels(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                              const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const int64_t m = slice.n_neurons;
  const bool cut = op.cuts != nullptr && !op.cuts->by_gate;
  const auto multiply = [&](const TensorView& w, const ChannelCut* of_x, float* out) {
    const LinearWeights weights = {.w = w, .by_column = slice.by_column};
    const LinearOp product = {&weights, out};
    const float* const cut_x = channels_.CutBatch(lane, of_x, x, n, slice.d_model());
    if (slice.by_column) {
      LinearByColumn(lane, product, cut_x, n);
    } else {
      Linear(lane, {&product, 1}, cut_x, n);
    }
    lane.Sync();
  };
  multiply(slice.gate, cut ? &op.cuts->gate : nullptr, state.gate);
  if (slice.is_gated()) multiply(slice.up, cut ? &op.cuts->up : nullptr, state.up);
  const auto [begin, end] = lane.Split(m, kPanelRows);
  AddToGates(lane, op, n, begin, end, state);
  if (op.cuts_gates) {
    lane.Sync();
    CutGates(lane, op, n, state);
  }
  Activate(lane, op, n, begin, end, state);
  lane.Sync(PassPart::kGate);
  NormHidden(lane, op, n, state);
}

void CutActivated(const KernelTable& kernels, const FfnOp& op, int64_t row, int64_t first,
                  int64_t n, float* gates) {
  if (op.cuts == nullptr || !op.cuts->by_gate) return;
  const ChannelCut& cut = op.cuts->activated;
  if (!cut.CutsRow(row)) return;
  kernels.cut_below(gates, cut.factors == nullptr ? nullptr : cut.factors + first, cut.least, n,
                    gates);
  cut.kept->fetch_add(n - std::count(gates, gates + n, 0.0F), std::memory_order_relaxed);
}

void ActivateGates(const KernelTable& kernels, const FfnOp& op, float* gates, int64_t n) {
  if (op.activation == Activation::kRelu && op.activation_threshold > 0) {
    kernels.drop_below(gates, n, op.activation_threshold);
  } else {
    kernels.activate(op.activation, gates, n);
  }
}

void CpuGemm::AddToGates(const Lane& lane, const FfnOp& op, int64_t n, int64_t first, int64_t last,
                         const FfnState& state) const {
  const FfnSlice& slice = *op.slice;
  for (int64_t t = 0; t < n; ++t) {
    float* const gate = state.gate + t * slice.n_neurons;
    if (slice.gate_bias != nullptr) {
      kernels_.add(gate + first, slice.gate_bias + first, last - first);
    }
    if (op.adapters.empty()) continue;
    low_rank_.AddTo(lane.rank, op, CpuLowRank::Target::kGate, t, nullptr, first, last, gate);
  }
}

void CpuGemm::CutGates(const Lane& lane, const FfnOp& op, int64_t n, const FfnState& state) const {
  const int64_t m = op.slice->n_neurons;
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    float* const gate = state.gate + t * m;
    const double mean = SumOf(gate, m, [](double g) { return g; }) / static_cast<double>(m);
    const double squares = SumOf(gate, m, [&](double g) { return (g - mean) * (g - mean); });
    const double deviation = std::sqrt(squares / static_cast<double>(m));
    const auto cut = static_cast<float>(mean + op.gate_cut * deviation);
    for (int64_t i = 0; i < m; ++i) gate[i] -= cut;
    kernels_.activate(Activation::kRelu, gate, m);
  }
  lane.Sync(PassPart::kGate);
}

// Makes h of gates and ups of neurons [first, last), for all tokens.
void CpuGemm::Activate(const Lane& lane, const FfnOp& op, int64_t n, int64_t first, int64_t last,
                       const FfnState& state) const {
  const FfnSlice& slice = *op.slice;
  for (int64_t t = 0; t < n; ++t) {
    const int64_t at = t * slice.n_neurons + first;
    float* const gate = state.gate + at;
    ActivateGates(kernels_, op, gate, last - first);
    CutActivated(kernels_, op, t, first, last - first, gate);
    if (!slice.is_gated()) continue;
    if (slice.up_bias != nullptr) kernels_.add(state.up + at, slice.up_bias + first, last - first);
    if (!op.adapters.empty()) {
      low_rank_.AddTo(lane.rank, op, CpuLowRank::Target::kUp, t, nullptr, first, last,
                      state.up + t * slice.n_neurons);
    }
    if (op.relu_up) kernels_.activate(Activation::kRelu, state.up + at, last - first);
    kernels_.multiply(gate, state.up + at, last - first);
  }
}

void CpuGemm::NormHidden(const Lane& lane, const FfnOp& op, int64_t n,
                         const FfnState& state) const {
  const FfnSlice& slice = *op.slice;
  if (slice.h_norm == nullptr) return;
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    float* const h = state.gate + t * slice.n_neurons;
    kernels_.rms_norm(h, slice.h_norm, slice.n_neurons, op.h_norm_eps, h);
  }
  lane.Sync(PassPart::kGate);
}

void CpuGemm::DownPanels(const Lane& lane, const FfnSlice& slice, int64_t n,
                         const FfnState& state) {
  const TensorView& down = slice.down;
  PanelGemm& gemm = this->gemm(lane);
  const bool stock = slice.down_layout == DownLayout::kStock;
  const GemmForm form = stock ? PanelGemm::RowsForm(kernels_, down.dtype)
                              : PanelGemm::ColumnsForm(kernels_, down.dtype);
  const GemmInput h = MakeInput(lane, form, state.gate, n, slice.n_neurons);
  if (stock) {
    lane.Share(CeilDiv(down.rows, kPanelRows), 1, kPanelGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t last = std::min((p + 1) * kPanelRows, down.rows);
        gemm.MultiplyRows(down, p * kPanelRows, last, h, state.y, down.rows,
                          PanelAhead(down, last));
      }
    });
  } else {
    const auto [begin, end] = lane.Split(down.cols, kGemmPanel);
    for (int64_t col = begin; col < end; col += kPanelColumns) {
      gemm.MultiplyColumns(down, col, std::min(col + kPanelColumns, end), h, state.y, down.cols);
    }
  }
  lane.Sync(PassPart::kDown);
}

}  // namespace thermocline
