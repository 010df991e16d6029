// The FFN of several tokens on the CPU, over neurons that are read and decoded once for all of them
// (docs/few-tokens.md). Where neurons are skipped, those are read that some token needs; a token
// that does not need one has h = 0 there, which changes no bit of its sums. Where tokens share too
// few, each goes over its own, while they are in cache: the results are the same.
#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/device/cpu/cpu_ffn.h"

namespace thermocline {
namespace {

constexpr int64_t kSpanBytes = 128 << 10;  // of gate rows: what tokens pass over one by one, in L2

// Whether rows that `any` of n tokens need, `tokens` of them counted for each token, are better
// taken for all tokens at once. Decoding a row for one token costs about as much as applying it to
// two: taken together each row costs 1 + n, and one by one 2 for each token that needs it.
bool PaysTogether(int64_t n, int64_t any, int64_t tokens) { return any * (n + 1) <= 2 * tokens; }

}  // namespace

// Sums of adapters follow the lists of single tokens, cuts of inputs have lists of their own, and
// an audit asks for every gate.
bool CpuFfn::TakesTogether(const Part& part) {
  return part.op.adapters.empty() && part.op.cuts == nullptr && !part.op.audit;
}

CpuFfn::Listed CpuFfn::ListAny(const Part& part, const float* values, int64_t begin,
                               int64_t end) const {
  const int64_t m = part.op.slice->n_neurons;
  float* const any = part.h;
  std::fill_n(any, end - begin, 0.0F);
  Listed listed;
  for (int64_t t = 0; t < part.n_tokens; ++t) {
    const float* const from = values + t * m + begin;
    int32_t n = 0;
    for (int64_t i = 0; i < end - begin; ++i) {
      const bool counts = from[i] != 0;
      any[i] = counts ? 1.0F : any[i];
      n += counts ? 1 : 0;
    }
    listed.tokens += n;
  }
  listed.any = kernels_.compact_nonzero(any, end - begin, static_cast<int32_t>(begin), part.rows);
  return listed;
}

void CpuFfn::CountFiredOf(const Part& part, const float* values, int64_t begin, int64_t end) const {
  if (part.op.fired == nullptr) return;
  for (int64_t t = 0; t < part.n_tokens; ++t) {
    const float* const from = values + t * part.op.slice->n_neurons;
    for (int64_t i = begin; i < end; ++i) part.op.fired[i] += from[i] != 0 ? 1 : 0;
  }
}

FfnCount CpuFfn::RunTokens(const Part& part, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& down = slice.down;
  const int64_t n = part.n_tokens;
  const int64_t m = slice.n_neurons;
  float* const gates = part.state.gate;
  FfnCount count = {.gates = n * (end - begin), .active = n * (end - begin)};
  GateRows(part, 0, n, begin, end);
  if (!part.op.skip_inactive) {
    UpRows(part, 0, n, begin, end);
    for (int64_t t = 0; t < n; ++t) {
      WeighHidden(part, t, nullptr, begin, end - begin, gates + t * m + begin);
    }
    if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
    kernels_.accumulate_tokens(
        down.dtype, {down.row(begin), down.row_stride_bytes, gates + begin, nullptr, end - begin, 0,
                     down.cols, part.partial, n, m, down.cols});
    if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
    return count;
  }
  const Listed listed = ListAny(part, gates, begin, end);
  count.active = listed.tokens;
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  if (PaysTogether(n, listed.any, listed.tokens)) {
    CountFiredOf(part, gates, begin, end);
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t i = 0; i < listed.any; ++i) {
        part.h[t * part.h_stride + i] = gates[t * m + part.rows[i]];
      }
    }
    RunActiveTokens(part, listed.any, begin);
    return count;
  }
  for (int64_t t = 0; t < n; ++t) {
    const float* const gate = gates + t * m;
    const int64_t n_active =
        kernels_.compact_nonzero(gate + begin, end - begin, static_cast<int32_t>(begin), part.rows);
    for (int64_t i = 0; i < n_active; ++i) part.h[i] = gate[part.rows[i]];
    RunActive(part, t, n_active, part.state.up + t * m + begin);
  }
  return count;
}

void CpuFfn::RunActiveTokens(const Part& part, int64_t n, int64_t at) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& w = slice.up;
  const TensorView& down = slice.down;
  const int64_t n_tokens = part.n_tokens;
  const int64_t m = slice.n_neurons;
  float* const ups = part.state.up + at;
  if (slice.is_gated() && !slice.by_column) {
    kernels_.matvec_tokens(w.dtype, {w.data, w.row_stride_bytes, w.cols, part.up_x, part.rows, 0, n,
                                     ups, n_tokens, part.up_x_stride, m});
  }
  for (int64_t t = 0; slice.is_gated() && t < n_tokens; ++t) {
    float* const up = ups + t * m;
    float* const h = part.h + t * part.h_stride;
    if (slice.by_column) {  // ups of all neurons are there; those of the list move to its places
      const float* const all = part.state.up + t * m;
      for (int64_t i = 0; i < n; ++i) up[i] = all[part.rows[i]];
    }
    for (int64_t i = 0; slice.up_bias != nullptr && i < n; ++i) {
      up[i] += slice.up_bias[part.rows[i]];
    }
    if (part.op.relu_up) kernels_.activate(Activation::kRelu, up, n);
    // The up of a neuron that is not active for the token counts for nothing, whatever it is.
    for (int64_t i = 0; i < n; ++i) h[i] = h[i] != 0 ? h[i] * up[i] : 0.0F;
  }
  if (part.op.relu_up) n = DropZerosOfAll(part, n);
  for (int64_t t = 0; t < n_tokens; ++t) {
    WeighHidden(part, t, part.rows, 0, n, part.h + t * part.h_stride);
  }
  if (part.timer != nullptr) part.timer->Mark(PassPart::kUp);
  kernels_.accumulate_tokens(down.dtype,
                             {down.data, down.row_stride_bytes, part.h, part.rows, n, 0, down.cols,
                              part.partial, n_tokens, part.h_stride, down.cols});
  if (part.timer != nullptr) part.timer->Mark(PassPart::kDown);
}

int64_t CpuFfn::DropZerosOfAll(const Part& part, int64_t n) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    bool any = false;
    for (int64_t t = 0; t < part.n_tokens; ++t) {
      const float h = part.h[t * part.h_stride + i];
      part.h[t * part.h_stride + kept] = h;
      any = any || h != 0;
    }
    part.rows[kept] = part.rows[i];
    kept += any ? 1 : 0;
  }
  return kept;
}

void CpuFfn::PredictTokens(const Part& part, int64_t begin, int64_t end) const {
  const SlicePredictor& predictor = *part.op.predictor;
  const OperatingPoint& point = predictor.layer.points.front();
  const int64_t m = part.op.slice->n_neurons;
  float* const scores = part.state.up;
  if (predictor.signs == nullptr) {
    const TensorView& w = predictor.layer.out_proj;
    const int64_t stride = rows_.PreparedStride(kernels_.vector_form(w.dtype), w.cols);
    kernels_.matvec_tokens(w.dtype, {w.data, w.row_stride_bytes, w.cols, part.inner, nullptr, begin,
                                     end, scores, part.n_tokens, stride, m});
  }
  for (int64_t t = 0; t < part.n_tokens; ++t) {
    float* const mine = scores + t * m;
    if (predictor.signs != nullptr) {
      predictor.signs->Score(part.signs[t], begin, end, part.rows, mine);
      for (int64_t i = begin; i < end; ++i) mine[i] -= point.predictor_threshold;
    } else if (point.bias != nullptr) {
      kernels_.add(mine + begin, point.bias + begin, end - begin);
    }
    kernels_.activate(Activation::kRelu, mine + begin, end - begin);
  }
}

FfnCount CpuFfn::RunPredictedTokens(const Part& part, int64_t begin, int64_t end) const {
  const FfnSlice& slice = *part.op.slice;
  const int64_t m = slice.n_neurons;
  float* const scores = part.state.up;
  PredictTokens(part, begin, end);
  FfnCount count;
  for (int64_t t = 0; t < part.n_tokens; ++t) {
    float* const mine = scores + t * m;
    int64_t n = end - begin - std::count(mine + begin, mine + end, 0.0F);
    if (static_cast<double>(n) > kListEfficiency * static_cast<double>(end - begin)) {
      std::fill(mine + begin, mine + end, 1.0F);  // all gates, as one token would
      n = end - begin;
    }
    count.gates += n;
  }
  if (part.timer != nullptr) part.timer->Mark(PassPart::kPredict);
  const int64_t span = std::max<int64_t>(32, kSpanBytes / slice.gate.row_stride_bytes);
  for (int64_t at = begin; at < end; at += span) {
    const int64_t last = std::min(at + span, end);
    const Listed listed = ListAny(part, scores, at, last);
    if (PaysTogether(part.n_tokens, listed.any, listed.tokens)) {
      count.active += RunListedTokens(part, listed.any, at);
      continue;
    }
    for (int64_t t = 0; t < part.n_tokens; ++t) {
      float* const mine = scores + t * m + at;
      const int64_t n =
          kernels_.compact_nonzero(mine, last - at, static_cast<int32_t>(at), part.rows);
      count.active += RunListed(part, t, n, mine);
    }
  }
  return count;
}

int64_t CpuFfn::RunListedTokens(const Part& part, int64_t n, int64_t at) const {
  const FfnSlice& slice = *part.op.slice;
  const TensorView& w = slice.gate;
  const int64_t m = slice.n_neurons;
  kernels_.matvec_tokens(w.dtype, {w.data, w.row_stride_bytes, w.cols, part.gate_x, part.rows, 0, n,
                                   part.h, part.n_tokens, part.gate_x_stride, part.h_stride});
  int64_t n_active = 0;
  for (int64_t t = 0; t < part.n_tokens; ++t) {
    float* const h = part.h + t * part.h_stride;
    const float* const predicted = part.state.up + t * m;
    for (int64_t i = 0; slice.gate_bias != nullptr && i < n; ++i) {
      h[i] += slice.gate_bias[part.rows[i]];
    }
    ActivateGates(kernels_, part.op, h, n);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = part.rows[i];
      h[i] = predicted[row] != 0 ? h[i] : 0.0F;
      n_active += h[i] != 0 ? 1 : 0;
      if (part.op.fired != nullptr) part.op.fired[row] += h[i] != 0 ? 1 : 0;
    }
  }
  if (part.timer != nullptr) part.timer->Mark(PassPart::kGate);
  RunActiveTokens(part, DropZerosOfAll(part, n), at);
  return n_active;
}

}  // namespace thermocline
