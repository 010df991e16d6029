#include "runtime/device/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_row_exchange.h"
#include "runtime/threads/memory_nodes.h"

namespace thermocline {
namespace {

constexpr uint64_t kAllocationUnit = 4096;
constexpr uint64_t kBlockBytes = 64 << 20;  // mapped; memory is taken where it is touched

}  // namespace

bool CpuDeviceLimits::WantsPanelAttention(const KernelTable& kernels) const {
  return kernels.gemm != nullptr && n_kv_heads > 0 && max_tokens >= kPanelAttentionTokens;
}

uint64_t CpuDeviceLimits::ScratchBytes(const KernelTable& kernels) const {
  return CpuRows::Bytes(kernels, *this) + CpuGemm::Bytes(kernels, *this) +
         CpuAttention::Bytes(kernels, *this) + CpuFfn::Bytes(kernels, *this) +
         CpuLowRank::Bytes(*this) + CpuChannels::Bytes(*this);
}

int64_t CpuDeviceLimits::MaxRowTokens() const {
  return std::min(max_tokens, predicts || skips ? kListMaxTokens : kFewTokens);
}

CpuDeviceLimits MakeCpuDeviceLimits(const ModelConfig& config, int64_t max_tokens,
                                    int64_t max_seq_len, int n_lanes, int64_t max_rank) {
  return {.n_lanes = n_lanes,
          .max_tokens = max_tokens,
          .d_model = config.d_model,
          .max_d_in = std::max({config.d_model, config.d_ff, config.q_dim(), config.low_dim()}),
          .max_neurons = config.d_ff,
          .max_seq_len = max_seq_len,
          .n_heads = config.n_heads,
          .n_kv_heads = config.n_heads / config.max_group(),  // of a layer with the largest group
          .head_dim = config.head_dim,
          .predicts = max_rank != kNoPredictor,
          .skips = std::ranges::any_of(config.layers,
                                       [](const LayerConfig& l) { return l.ffn.has_true_zeros(); }),
          .max_rank = std::max<int64_t>(max_rank, 0)};
}

// 256 positions of a head of 128 in f16 are 64 kB, which stay in L2 between the query heads that
// share them. Chunks are longer where there would be more than 64.
int64_t CpuDeviceLimits::KvChunk() const {
  return std::max<int64_t>(256, AlignUp(CeilDiv(max_seq_len, 64), 64));
}

int64_t CpuDeviceLimits::ChunkedRows() const {
  constexpr int64_t kMost = 16;
  return std::clamp<int64_t>(max_sequences, kGemmMinTokens - 1, kMost);
}

CpuDevice::CpuDevice(std::string name, const CpuDeviceLimits& limits)
    : kernels_(limits.Kernels()),
      name_(std::move(name)),
      rows_(kernels_, limits),
      low_rank_(kernels_, limits),
      channels_(kernels_, limits),
      gemm_(kernels_, limits, low_rank_, channels_),
      attention_(kernels_, limits),
      ffn_(kernels_, limits, rows_, gemm_, low_rank_, channels_),
      table_rows_(static_cast<size_t>(limits.n_lanes)),
      allocated_bytes_(limits.ScratchBytes(kernels_)) {}

// Hands out memory from large blocks: each block is whole huge pages, and one per matrix would
// leave half a huge page unused behind every matrix.
void* CpuDevice::Allocate(uint64_t n_bytes, const std::string& purpose) {
  const uint64_t wanted = (n_bytes + kAllocationUnit - 1) / kAllocationUnit * kAllocationUnit;
  CHECK(wanted >= n_bytes);
  if (blocks_.empty() || blocks_.back().size() - block_used_ < wanted) {
    blocks_.emplace_back(std::max(wanted, kBlockBytes), purpose);
    SpreadOverNodes(blocks_.back().data(), blocks_.back().size());
    block_used_ = 0;
  }
  void* memory = blocks_.back().bytes() + block_used_;
  block_used_ += wanted;
  allocated_bytes_ += n_bytes;
  return memory;
}

void CpuDevice::Upload(void* destination, const void* source, uint64_t n_bytes) {
  std::memcpy(destination, source, n_bytes);
}

TensorView CpuDevice::StoreRows(const TensorView& source, std::span<const int32_t> rows,
                                const std::string& purpose) {
  const int64_t row_bytes = RowBytes(source.dtype, source.cols);
  const int64_t n = rows.empty() ? source.rows : static_cast<int64_t>(rows.size());
  auto* memory = static_cast<std::byte*>(Allocate(static_cast<uint64_t>(n * row_bytes), purpose));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = rows.empty() ? i : rows[static_cast<size_t>(i)];
    std::memcpy(memory + i * row_bytes, source.row(row), static_cast<size_t>(row_bytes));
  }
  return DenseView(memory, source.dtype, n, source.cols);
}

std::unique_ptr<RowExchange> CpuDevice::MakeRowExchange(const RowExchangeLimits& limits) {
  auto exchange = std::make_unique<CpuRowExchange>(limits);
  allocated_bytes_ += CpuRowExchange::Bytes(limits);
  return exchange;
}

std::unique_ptr<KvCache> CpuDevice::MakeKvCache(const ModelConfig& config, DType dtype,
                                                const KvLayout& layout, size_t tier) {
  return std::make_unique<HostKvCache>(config, dtype, layout, tier);
}

void CpuDevice::Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                      float* x) {
  const auto [begin, end] = lane.Split(static_cast<int64_t>(ids.size()));
  for (int64_t t = begin; t < end; ++t) {
    const int32_t id = ids[static_cast<size_t>(t)];
    DCHECK(id >= 0 && id < table.rows);
    kernels_.dequantize_f32(table.dtype, table.row(id), 0, table.cols, x + t * table.cols);
  }
  lane.Sync();
}

void CpuDevice::AddPositions(const Lane& lane, const TensorView& table, const Batch& batch,
                             int64_t offset, float* x) {
  std::vector<float>& row = table_rows_[static_cast<size_t>(lane.rank)];
  row.resize(static_cast<size_t>(table.cols));
  const auto [begin, end] = lane.Split(batch.n_rows());
  for (int64_t t = begin; t < end; ++t) {
    const int64_t position = batch.row(t).position + offset;
    CHECK(position < table.rows);
    kernels_.dequantize_f32(table.dtype, table.row(position), 0, table.cols, row.data());
    kernels_.add(x + t * table.cols, row.data(), table.cols);
  }
  lane.Sync();
}

void CpuDevice::Norm(const Lane& lane, const NormOp& norm, const float* x, int64_t n, int64_t d,
                     float* out) {
  const int64_t width = d / norm.groups;
  const auto [begin, end] = lane.Split(n * norm.groups);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t own = norm.own_weights ? i % norm.groups * width : 0;
    const float* from = x + i * width;
    float* to = out + i * width;
    if (!norm.weights) {
      std::copy_n(from, width, to);
    } else if (norm.kind == NormKind::kRms) {
      kernels_.rms_norm(from, norm.weights.weight + own, width, norm.eps, to);
    } else {
      const float* bias = norm.weights.bias == nullptr ? nullptr : norm.weights.bias + own;
      kernels_.layer_norm(from, norm.weights.weight + own, bias, width, norm.eps, to);
    }
  }
  lane.Sync();
}

// Runs of matrices that are read alike are made together.
void CpuDevice::Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) {
  const auto by_channels = [](const LinearOp& op) {
    return op.cut != nullptr || op.weights->by_column;
  };
  while (!ops.empty()) {
    const auto other = std::ranges::find_if(
        ops, [&](const LinearOp& op) { return by_channels(op) != by_channels(ops.front()); });
    const auto same = ops.first(static_cast<size_t>(other - ops.begin()));
    if (by_channels(ops.front())) {
      LinearOfChannels(lane, same, x, n);
    } else if (n <= kFewTokens) {
      rows_.Linear(lane, same, x, n);
    } else {
      gemm_.Linear(lane, same, x, n);
    }
    ops = ops.subspan(same.size());
    lane.Sync();
  }
}

void CpuDevice::LinearOfChannels(const Lane& lane, std::span<const LinearOp> ops, const float* x,
                                 int64_t n) {
  const auto by_column = [](const LinearOp& op) { return op.weights->by_column; };
  if (n < kGemmMinTokens && std::ranges::all_of(ops, by_column)) {
    channels_.Linear(lane, ops, x, n);
    return;
  }
  for (const LinearOp& op : ops) {
    if (&op != ops.data()) lane.Sync();
    const bool in_rows = !by_column(op) && n <= kFewTokens;
    const int64_t d = op.weights->d_in();
    const float* const cut_x = in_rows ? channels_.CutRows(lane, op.cut, x, n, d)
                                       : channels_.CutBatch(lane, op.cut, x, n, d);
    const LinearOp plain = {op.weights, op.out};
    if (in_rows) {
      rows_.Linear(lane, {&plain, 1}, cut_x, n);
    } else if (by_column(op) && n < kGemmMinTokens) {
      channels_.Linear(lane, {&op, 1}, x, n);
    } else if (by_column(op)) {
      gemm_.LinearByColumn(lane, plain, cut_x, n);
    } else {
      gemm_.Linear(lane, {&plain, 1}, cut_x, n);
    }
  }
}

void CpuDevice::AddLowRank(const Lane& lane, const AdapterRows& rows,
                           std::span<const AttentionLowRank> adapters,
                           std::span<const LowRankOp> ops, const float* x, int64_t n,
                           int64_t d_in) {
  low_rank_.AddProducts(lane, rows, adapters, ops, x, n, d_in);
}

void CpuDevice::RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache,
                           const AttentionOp& op, float* q, float* k, const float* v) {
  attention_.RopeAppend(lane, rope, static_cast<const HostKvCache&>(cache), op, q, k, v);
}

void CpuDevice::Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op,
                       const float* q, float* out) {
  attention_.Attend(lane, static_cast<const HostKvCache&>(cache), op, q, out);
}

FfnCount CpuDevice::Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                        const FfnState& state) {
  return ffn_.Run(lane, op, x, n, state);
}

void CpuDevice::Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) {
  const auto [begin, end] = lane.Split(n, 16);
  for (const float* y : ys) kernels_.add(x + begin, y + begin, end - begin);
  lane.Sync();
}

void CpuDevice::AddNorm(const Lane& lane, const NormOp& norm, float* x, const float* y, int64_t n,
                        int64_t d, float* out) {
  DCHECK(norm.groups == 1);  // so that a lane's rows are the same below
  const auto [begin, end] = lane.Split(n);
  kernels_.add(x + begin * d, y + begin * d, (end - begin) * d);
  Norm(lane, norm, x, n, d, out);
}

void CpuDevice::AddBias(const Lane& lane, float* x, const float* bias, int64_t n, int64_t d) {
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) kernels_.add(x + t * d, bias, d);
  lane.Sync();
}

void CpuDevice::Scale(const Lane& lane, float* x, float scale, float soft_cap, int64_t n) {
  const auto [begin, end] = lane.Split(n, 16);
  if (scale == 0) {
    std::fill(x + begin, x + end, 0.0F);
  } else {
    kernels_.scale(x + begin, end - begin, scale, soft_cap);
  }
  lane.Sync();
}

}  // namespace thermocline
