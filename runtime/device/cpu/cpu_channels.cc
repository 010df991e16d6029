// A matrix by column is (d_in, d_out): y = sum over the channels j that are kept of x_j row_j. Of
// d_in rows of b bytes a token reads the share that is kept, in stretches of a stripe's width.
#include "runtime/device/cpu/cpu_channels.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Outputs that a stripe is cut at: what the kernels of 4-bit types take at a time.
constexpr int64_t kStripeUnit = 128;
// Bytes of a row in a stripe, so that its sums stay in the second cache. Rows that lie apart are
// read the faster the longer they are.
constexpr int64_t kStripeBytes = 8192;
// Bytes of a row that a stripe keeps where there are more stripes only so that lanes have tasks.
constexpr int64_t kLeastStripeBytes = 2048;
constexpr int64_t kTasks = 16;          // of a product, so that lanes can share them out
constexpr int64_t kMaxColumnParts = 8;  // of the channels: each has sums of its own
// Of the sums of all parts, which are read and written beside the weights: between two layers these
// drive them out of caches.
constexpr int64_t kSumsBytes = 192 << 10;
constexpr int64_t kTaskBytes = 128 << 10;  // of weights, dense, that are worth sums of their own
constexpr int64_t kAddedCols = 2048;       // outputs that are added at a time, in the first cache
constexpr int64_t kMaxColumnOps = 3;       // products that one call makes (q, k, v)

int64_t MostParts(const CpuDeviceLimits& limits) {
  return kMaxColumnParts * (kGemmMinTokens - 1) * kMaxColumnOps * AlignUp(limits.max_d_in, 16);
}

}  // namespace

CpuChannels::CpuChannels(const KernelTable& kernels, const CpuDeviceLimits& limits)
    : kernels_(kernels) {
  if (!limits.cuts && !limits.by_column) return;
  const auto d = static_cast<uint64_t>(limits.max_d_in);
  for (int i = 0; i < limits.n_lanes; ++i) {
    LaneScratch& lane = lanes_.emplace_back();
    for (AlignedBuffer& x : lane.x) {
      x = AlignedBuffer(kFewTokens * d * sizeof(float), "inputs with small ones cut");
    }
    lane.kept = AlignedBuffer(d * sizeof(float), "channels that are kept");
    lane.rows = AlignedBuffer((d + 16) * sizeof(int32_t), "channels that are kept");
  }
  const auto batch = static_cast<uint64_t>(limits.max_tokens) * d * sizeof(float);
  batch_ = AlignedBuffer(batch, "inputs with small ones cut");
  if (!limits.by_column) return;
  partial_ = AlignedBuffer(static_cast<uint64_t>(MostParts(limits)) * sizeof(float), "sums");
}

uint64_t CpuChannels::Bytes(const CpuDeviceLimits& limits) {
  if (!limits.cuts && !limits.by_column) return 0;
  const auto d = static_cast<uint64_t>(limits.max_d_in);
  const uint64_t lane = (2 * kFewTokens * d + 2 * d + 16) * sizeof(float);
  const uint64_t sums = limits.by_column ? static_cast<uint64_t>(MostParts(limits)) : 0;
  return static_cast<uint64_t>(limits.n_lanes) * lane +
         (static_cast<uint64_t>(limits.max_tokens) * d + sums) * sizeof(float);
}

void CpuChannels::CountKept(const ChannelCut& cut, const float* x, int64_t n, int64_t d) const {
  int64_t kept = 0;
  for (int64_t t = 0; t < n; ++t) {
    if (cut.CutsRow(t)) kept += d - std::count(x + t * d, x + (t + 1) * d, 0.0F);
  }
  cut.kept->fetch_add(kept, std::memory_order_relaxed);
}

const float* CpuChannels::CutRows(const Lane& lane, const ChannelCut* cut, const float* x,
                                  int64_t n, int64_t d, int slot) {
  if (cut == nullptr) return x;
  DCHECK(n <= kFewTokens);
  auto* const out = lanes_[static_cast<size_t>(lane.rank)].x[slot].as<float>();
  for (int64_t t = 0; t < n; ++t) {
    if (cut->CutsRow(t)) {
      kernels_.cut_below(x + t * d, cut->factors, cut->least, d, out + t * d);
    } else {
      std::copy_n(x + t * d, d, out + t * d);
    }
  }
  if (lane.rank == 0) CountKept(*cut, out, n, d);
  return out;
}

const float* CpuChannels::CutBatch(const Lane& lane, const ChannelCut* cut, const float* x,
                                   int64_t n, int64_t d, float* out) {
  if (cut == nullptr) return x;
  if (out == nullptr) out = batch_.as<float>();
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    if (cut->CutsRow(t)) {
      kernels_.cut_below(x + t * d, cut->factors, cut->least, d, out + t * d);
    } else if (out != x) {
      std::copy_n(x + t * d, d, out + t * d);
    }
  }
  lane.Sync();
  if (lane.rank == 0) CountKept(*cut, out, n, d);
  return out;
}

// The parts depend on the model alone; how many stripes there are changes no bit.
CpuChannels::Grid CpuChannels::GridOf(const LinearWeights& weights, int64_t n_products,
                                      int64_t n_lanes) {
  const TensorView& w = weights.w;
  const int64_t row_bytes = RowBytes(w.dtype, w.cols);
  const int64_t most_stripes = CeilDiv(w.cols, kStripeUnit);
  Grid grid;
  grid.n_stripes = std::clamp<int64_t>(row_bytes / kStripeBytes, 1, most_stripes);
  const int64_t by_bytes = w.rows * row_bytes / kTaskBytes / grid.n_stripes;
  const int64_t by_sums = kSumsBytes / (w.cols * static_cast<int64_t>(sizeof(float)));
  grid.n_parts = std::clamp<int64_t>(std::min({by_bytes, by_sums, kTasks / grid.n_stripes}), 1,
                                     std::min(kMaxColumnParts, w.rows));
  while (grid.n_tasks() * n_products < 2 * n_lanes && 2 * grid.n_stripes <= most_stripes &&
         row_bytes / (2 * grid.n_stripes) >= kLeastStripeBytes) {
    grid.n_stripes *= 2;
  }
  return grid;
}

int64_t CpuChannels::Keep(const ChannelCut& cut, const float* x, int64_t begin, int64_t end,
                          int32_t* rows, float* kept) const {
  const float* const factors = cut.factors == nullptr ? nullptr : cut.factors + begin;
  kernels_.cut_below(x + begin, factors, cut.least, end - begin, kept);
  const int64_t n = kernels_.compact_nonzero(kept, end - begin, static_cast<int32_t>(begin), rows);
  for (int64_t i = 0; i < n; ++i) kept[i] = kept[rows[i] - begin];
  return n;
}

void CpuChannels::RunTask(const Lane& lane, const LinearOp& op, const Grid& grid, int64_t task,
                          const float* x, int64_t n, float* partial) {
  const TensorView& w = op.weights->w;
  const int64_t stripe = task % grid.n_stripes;
  const int64_t part = task / grid.n_stripes;
  const int64_t units = CeilDiv(w.cols, kStripeUnit);
  const int64_t col_begin = units * stripe / grid.n_stripes * kStripeUnit;
  const int64_t col_end = std::min(units * (stripe + 1) / grid.n_stripes * kStripeUnit, w.cols);
  const int64_t begin = w.rows * part / grid.n_parts;
  const int64_t end = w.rows * (part + 1) / grid.n_parts;
  LaneScratch& scratch = lanes_[static_cast<size_t>(lane.rank)];
  for (int64_t t = 0; t < n; ++t) {
    const float* const from = x + t * w.rows;
    float* const y = partial + (part * n + t) * w.cols;
    std::fill(y + col_begin, y + col_end, 0.0F);
    if (op.cut == nullptr || !op.cut->CutsRow(t) || op.cut->least <= 0) {
      kernels_.accumulate_channels(w.dtype, w.row(begin), w.row_stride_bytes, from + begin, nullptr,
                                   end - begin, col_begin, col_end, y);
      if (op.cut != nullptr && op.cut->CutsRow(t) && stripe == 0) {
        op.cut->kept->fetch_add(end - begin, std::memory_order_relaxed);
      }
      continue;
    }
    auto* const rows = scratch.rows.as<int32_t>();
    auto* const kept = scratch.kept.as<float>();
    const int64_t n_kept = Keep(*op.cut, from, begin, end, rows, kept);
    kernels_.accumulate_channels(w.dtype, w.data, w.row_stride_bytes, kept, rows, n_kept, col_begin,
                                 col_end, y);
    if (stripe == 0) op.cut->kept->fetch_add(n_kept, std::memory_order_relaxed);
  }
}

void CpuChannels::AddParts(const LinearOp& op, const Grid& grid, int64_t begin, int64_t end,
                           int64_t n, const float* partial) const {
  const int64_t d = op.weights->w.cols;
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t at = begin; at < end; at += kAddedCols) {
      const int64_t cols = std::min(kAddedCols, end - at);
      float* const out = op.out + t * d + at;
      std::copy_n(partial + t * d + at, cols, out);
      for (int64_t p = 1; p < grid.n_parts; ++p) {
        kernels_.add(out, partial + (p * n + t) * d + at, cols);
      }
      if (op.weights->bias != nullptr) kernels_.add(out, op.weights->bias + at, cols);
    }
  }
}

void CpuChannels::Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x,
                         int64_t n) {
  CHECK(n < kGemmMinTokens && ops.size() <= kMaxColumnOps);
  Grid grids[kMaxColumnOps];
  float* partials[kMaxColumnOps];
  int64_t n_tasks = 0;
  int64_t floats = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    grids[i] = GridOf(*ops[i].weights, std::ssize(ops), lane.size);
    partials[i] = partial_.as<float>() + floats;
    floats += AlignUp(grids[i].n_parts * n * ops[i].weights->w.cols, 16);
    n_tasks += grids[i].n_tasks();
  }
  CHECK(static_cast<uint64_t>(floats) * sizeof(float) <= partial_.size());
  lane.Share(n_tasks, 1, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      int64_t own = task;
      size_t i = 0;
      for (; own >= grids[i].n_tasks(); ++i) own -= grids[i].n_tasks();
      RunTask(lane, ops[i], grids[i], own, x, n, partials[i]);
    }
  });
  lane.Sync();
  // Outputs are shared out as one line over all products, as tasks are: a lane then mostly adds
  // what it has made itself.
  int64_t n_outputs = 0;
  for (const LinearOp& op : ops) n_outputs += op.weights->w.cols;
  const auto [begin, end] = lane.Split(n_outputs, 16);
  int64_t first = 0;  // output of the product at hand
  for (size_t i = 0; i < ops.size(); ++i) {
    const int64_t d = ops[i].weights->w.cols;
    AddParts(ops[i], grids[i], std::clamp<int64_t>(begin - first, 0, d),
             std::clamp<int64_t>(end - first, 0, d), n, partials[i]);
    first += d;
  }
}

}  // namespace thermocline
