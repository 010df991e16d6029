#include "runtime/device/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/threads/memory_nodes.h"

namespace thermocline {
namespace {

constexpr VectorForm kForms[] = {VectorForm::kF32, VectorForm::kBF16, VectorForm::kQ8};
constexpr uint64_t kAllocationUnit = 4096;
constexpr uint64_t kBlockBytes = 64 << 20;  // mapped; memory is taken where it is touched
constexpr int kPreparedSlots = 2;           // matrices that want one x in two forms
constexpr int64_t kRowUnit = 8;             // rows a lane's share of a matrix is cut at
// Bytes of weights that a lane takes at a time. What several tokens pass over stays in L2. For one
// token it is longer, some ten microseconds' worth, which is what a lane that was held up costs the
// others.
constexpr int64_t kChunkBytes = 128 << 10;
constexpr int64_t kStreamBytes = 256 << 10;

// Returns the bytes of one vector in any form. Prepared vectors are whole cache lines each.
uint64_t VectorBytes(const KernelTable& kernels, int64_t d) {
  int64_t most = 0;
  for (const VectorForm form : kForms) {
    most = std::max(most, kernels.prepared_bytes(form, AlignUp(d, kQuantBlock)));
  }
  return static_cast<uint64_t>(most);
}
uint64_t PreparedBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  return VectorBytes(kernels, limits.max_d_in) *
         static_cast<uint64_t>(limits.MaxRowTokens() * kPreparedSlots);
}
// Returns the bytes of the vectors between a predictor's matrices: those that one lane prepares,
// and below, those of all lanes as they are.
uint64_t LaneInnerBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  if (limits.max_rank == 0) return 0;
  return VectorBytes(kernels, limits.max_rank) * static_cast<uint64_t>(limits.MaxRowTokens());
}
uint64_t InnerBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(limits.MaxRowTokens() * limits.max_rank) * sizeof(float);
}

int64_t MaxChunks(const CpuDeviceLimits& limits) {
  return CeilDiv(limits.max_seq_len, limits.KvChunk());
}
// Returns the bytes that one query head leaves of all its chunks.
uint64_t HeadChunksBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(MaxChunks(limits) * (limits.head_dim + kChunkExtra)) * sizeof(float);
}
uint64_t StepChunksBytes(const CpuDeviceLimits& limits) {
  return HeadChunksBytes(limits) * static_cast<uint64_t>(limits.n_heads * (kGemmMinTokens - 1));
}
uint64_t ScoresBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(limits.KvChunk()) * sizeof(float);
}
uint64_t HeadBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(
      kernels.prepared_bytes(VectorForm::kQ8, AlignUp(limits.head_dim, kQuantBlock)));
}
uint64_t RowsBytes(int64_t max_neurons) {
  return static_cast<uint64_t>(max_neurons + 16) * sizeof(int32_t);
}
uint64_t HBytes(int64_t max_neurons) { return static_cast<uint64_t>(max_neurons) * sizeof(float); }
uint64_t AttentionBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  if (!limits.WantsPanelAttention(kernels)) return 0;
  return PanelAttention::Bytes(kernels, limits.head_dim, limits.n_heads / limits.n_kv_heads,
                               limits.KvChunk());
}
uint64_t PartialBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(kFfnParts * limits.MaxRowTokens() * limits.d_model) * sizeof(float);
}

}  // namespace

bool CpuDeviceLimits::WantsPanelAttention(const KernelTable& kernels) const {
  return kernels.gemm != nullptr && n_kv_heads > 0 && max_tokens >= kPanelAttentionTokens;
}

uint64_t CpuDeviceLimits::ScratchBytes(const KernelTable& kernels) const {
  const uint64_t per_lane = PreparedBytes(kernels, *this) + LaneInnerBytes(kernels, *this) +
                            ScoresBytes(*this) + HeadChunksBytes(*this) +
                            HeadBytes(kernels, *this) + RowsBytes(max_neurons) +
                            HBytes(max_neurons) + PanelGemm::PanelBytes(kernels, max_d_in) +
                            AttentionBytes(kernels, *this);
  return per_lane * static_cast<uint64_t>(n_lanes) +
         PanelGemm::InputBytes(kernels, max_tokens, max_d_in) + PartialBytes(*this) +
         InnerBytes(*this) + StepChunksBytes(*this);
}

int64_t CpuDeviceLimits::MaxRowTokens() const {
  return std::min(max_tokens, predicts ? kListMaxTokens : kGemmMinTokens - 1);
}

CpuDeviceLimits MakeCpuDeviceLimits(const ModelConfig& config, int64_t max_tokens,
                                    int64_t max_seq_len, int n_lanes, int64_t max_rank) {
  return {.n_lanes = n_lanes,
          .max_tokens = max_tokens,
          .d_model = config.d_model,
          .max_d_in = std::max({config.d_model, config.d_ff, config.q_dim()}),
          .max_neurons = config.d_ff,
          .max_seq_len = max_seq_len,
          .n_heads = config.n_heads,
          .n_kv_heads = config.n_heads / config.max_group(),  // of a layer with the largest group
          .head_dim = config.head_dim,
          .predicts = max_rank != kNoPredictor,
          .max_rank = std::max<int64_t>(max_rank, 0)};
}

// 256 positions of a head of 128 in f16 are 64 kB, which stay in L2 between the query heads that
// share them. Chunks are longer where there would be more than 64.
int64_t CpuDeviceLimits::KvChunk() const {
  return std::max<int64_t>(256, AlignUp(CeilDiv(max_seq_len, 64), 64));
}

CpuDevice::CpuDevice(std::string name, const CpuDeviceLimits& limits)
    : kernels_(CpuKernels()), name_(std::move(name)) {
  for (int i = 0; i < limits.n_lanes; ++i) {
    auto lane = std::make_unique<LaneScratch>();
    lane->prepared = AlignedBuffer(PreparedBytes(kernels_, limits), "activation vectors");
    lane->inner = AlignedBuffer(LaneInnerBytes(kernels_, limits), "the predictor");
    if (limits.predicts) lane->signs.resize(static_cast<size_t>(limits.MaxRowTokens()));
    lane->scores = AlignedBuffer(ScoresBytes(limits), "attention scores");
    lane->chunks = AlignedBuffer(HeadChunksBytes(limits), "attention outputs");
    lane->head = AlignedBuffer(HeadBytes(kernels_, limits), "a query head");
    lane->rows = AlignedBuffer(RowsBytes(limits.max_neurons), "neuron lists");
    lane->h = AlignedBuffer(HBytes(limits.max_neurons), "FFN activations");
    lane->gemm = std::make_unique<PanelGemm>(kernels_, limits.max_d_in);
    if (limits.WantsPanelAttention(kernels_)) {
      lane->attention = std::make_unique<PanelAttention>(
          kernels_, limits.head_dim, limits.n_heads / limits.n_kv_heads, limits.KvChunk());
    }
    lanes_.push_back(std::move(lane));
  }
  gemm_input_ = AlignedBuffer(PanelGemm::InputBytes(kernels_, limits.max_tokens, limits.max_d_in),
                              "prefill inputs");
  partial_ = AlignedBuffer(PartialBytes(limits), "FFN outputs");
  part_counts_.resize(kFfnParts);
  inner_ = AlignedBuffer(InnerBytes(limits), "the predictor");
  max_row_tokens_ = limits.MaxRowTokens();
  chunks_ = AlignedBuffer(StepChunksBytes(limits), "attention outputs");
  kv_chunk_ = limits.KvChunk();
  allocated_bytes_ = limits.ScratchBytes(kernels_);
}

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

std::unique_ptr<KvCache> CpuDevice::MakeKvCache(const ModelConfig& config, DType dtype,
                                                int64_t n_pages) {
  return std::make_unique<HostKvCache>(config, dtype, n_pages);
}

int64_t CpuDevice::PreparedStride(VectorForm form, int64_t d) const {
  if (form == VectorForm::kF32) return d * static_cast<int64_t>(sizeof(float));
  return kernels_.prepared_bytes(form, d);
}

const std::byte* CpuDevice::Prepare(const Lane& lane, VectorForm form, const float* x, int64_t n,
                                    int64_t d, int slot) {
  if (form == VectorForm::kF32) return reinterpret_cast<const std::byte*>(x);
  DCHECK(n <= max_row_tokens_);
  AlignedBuffer& prepared = scratch(lane).prepared;
  std::byte* out =
      prepared.bytes() + prepared.size() / kPreparedSlots * static_cast<uint64_t>(slot);
  for (int64_t t = 0; t < n; ++t) {
    kernels_.prepare(form, x + t * d, d, out + t * PreparedStride(form, d));
  }
  return out;
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

void CpuDevice::RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
                        int64_t d, float* out) {
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    kernels_.rms_norm(x + t * d, weight, d, eps, out + t * d);
  }
  lane.Sync();
}

void CpuDevice::Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) {
  if (n < MinGemmTokens()) {
    LinearRows(lane, ops, x, n);
  } else {
    LinearPanels(lane, ops, x, n);
  }
  lane.Sync();
}

// Shares out the rows of all matrices that want x in the same form as one list.
void CpuDevice::LinearRows(const Lane& lane, std::span<const LinearOp> ops, const float* x,
                           int64_t n) {
  const int64_t d_in = ops.front().weights->w.cols;
  while (!ops.empty()) {
    const VectorForm form = kernels_.vector_form(ops.front().weights->w.dtype);
    size_t same = 0;
    int64_t n_rows = 0;
    int64_t row_bytes = 1;
    for (; same < ops.size(); ++same) {
      const TensorView& w = ops[same].weights->w;
      if (kernels_.vector_form(w.dtype) != form) break;
      n_rows += w.rows;
      row_bytes = std::max(row_bytes, w.row_stride_bytes);
    }
    const std::byte* prepared = Prepare(lane, form, x, n, d_in);
    const int64_t grain =
        AlignUp(CeilDiv(n == 1 ? kStreamBytes : kChunkBytes, row_bytes), kRowUnit);
    lane.Share(n_rows, kRowUnit, grain, [&](int64_t begin, int64_t end) {
      for (const LinearOp& op : ops.first(same)) {
        const int64_t rows = op.weights->w.rows;
        if (begin < rows && end > 0) {
          MultiplyRows(op, prepared, PreparedStride(form, d_in), n, std::max<int64_t>(begin, 0),
                       std::min(end, rows));
        }
        begin -= rows;
        end -= rows;
      }
    });
    ops = ops.subspan(same);
    if (!ops.empty()) lane.Sync();
  }
}

// Multiplies rows [begin, end) by all tokens, while they are in cache.
void CpuDevice::MultiplyRows(const LinearOp& op, const std::byte* prepared, int64_t stride,
                             int64_t n, int64_t begin, int64_t end) const {
  const TensorView& w = op.weights->w;
  for (int64_t t = 0; t < n; ++t) {
    float* out = op.out + t * w.rows;
    kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols, prepared + t * stride, nullptr,
                    begin, end, out);
    if (op.weights->bias != nullptr) {
      kernels_.add(out + begin, op.weights->bias + begin, end - begin);
    }
  }
}

void CpuDevice::Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) {
  const auto [begin, end] = lane.Split(n, 16);
  for (const float* y : ys) kernels_.add(x + begin, y + begin, end - begin);
  lane.Sync();
}

void CpuDevice::AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight,
                           float eps, int64_t n, int64_t d, float* out) {
  const auto [begin, end] = lane.Split(n);
  kernels_.add(x + begin * d, y + begin * d, (end - begin) * d);
  RmsNorm(lane, x, weight, eps, n, d, out);
}

}  // namespace thermocline
