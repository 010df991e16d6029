#include "runtime/device/gpu/gpu_device.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "gpu_kernels/products/matvec.h"
#include "gpu_kernels/tokens/attention.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "gpu_kernels/tokens/embedding.h"
#include "gpu_kernels/tokens/rms_norm.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_rows.h"

namespace thermocline {
namespace {

constexpr uint64_t kStagingBytes = 8 << 20;
constexpr uint64_t kPanelBytes = 32 << 20;
constexpr int64_t kMinBucket = 512;  // positions

static_assert(kMaxKeptRows == kMaxKeptTokens);
static_assert(kGpuKvPageTokens == kKvPageTokens);

// Longest input of a product.
int64_t MaxInput(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return std::max({c.d_model, c.q_dim(), limits.max_neurons});
}

uint64_t DownBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  uint64_t most = 0;
  for (const DType dtype : kWeightDTypes) {
    if (c.d_model % GetDTypeInfo(dtype).block_elems != 0) continue;
    const GpuMatrix down = MakeGpuMatrix(nullptr, dtype, limits.max_neurons, c.d_model);
    most = std::max(most, GpuFfnDownBytes(down, kMaxKeptTokens));
  }
  return most;
}

uint64_t BatchBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return limits.max_tokens <= kMaxKeptTokens
             ? 0
             : GpuBatchBytes(MaxInput(c, limits), limits.max_tokens);
}
uint64_t PanelBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return limits.max_tokens <= kMaxKeptTokens
             ? 0
             : std::max(kPanelBytes, GpuPanelBytes(MaxInput(c, limits)));
}

uint64_t AttentionBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return GpuAttendScratchBytes(std::min(limits.max_tokens, kMaxKeptTokens), c.n_heads, c.head_dim,
                               limits.max_seq_len);
}

uint64_t RopeBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return static_cast<uint64_t>(limits.max_seq_len * (c.rope.rot_dim / 2)) * sizeof(float);
}

GpuPassLimits PassLimits(const GpuDeviceLimits& limits) {
  return {limits.max_tokens, limits.max_sequences * KvPagesFor(limits.max_seq_len)};
}

GpuPredictor::Limits PredictorLimits(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return {limits.max_neurons, kMaxKeptTokens, limits.max_rank, c.d_model};
}

}  // namespace

// Keys and values in the form of gpu_kernels/tokens/kv_planes.h.
class GpuDevice::PagedCache final : public KvCache {
 public:
  PagedCache(Stream& stream, const GpuKvCache::Shape& shape)
      : stream_(stream), shape_(shape), cache_(shape) {}
  DType dtype() const override { return shape_.dtype; }
  int64_t n_pages() const override { return shape_.n_slots / kKvPageTokens; }
  uint64_t allocated_bytes() const override { return GpuKvCache::Bytes(shape_); }
  void CopyPage(const KvPageCopy& copy) override { cache_.CopyPage(stream_, copy.from, copy.to); }
  GpuKvLayer Layer(int64_t layer) const { return cache_.Layer(layer); }

 private:
  Stream& stream_;
  GpuKvCache::Shape shape_;
  GpuKvCache cache_;
};

uint64_t GpuDevice::ScratchBytes(const ModelConfig& config, const GpuDeviceLimits& limits) {
  return GpuVectorsBytes(MaxInput(config, limits), kMaxKeptTokens) + DownBytes(config, limits) +
         BatchBytes(config, limits) + PanelBytes(config, limits) + AttentionBytes(config, limits) +
         2 * RopeBytes(config, limits) +
         (limits.predicts ? GpuPredictor::Bytes(PredictorLimits(config, limits)) : 0) +
         GpuBest::Bytes(config.vocab_size) +
         (limits.max_tokens > kMaxKeptTokens ? GpuGemm::kWorkspaceBytes : 0) +
         static_cast<uint64_t>(config.n_layers) * sizeof(GpuLayerCounts) +
         GpuPassInputs::DeviceBytes(PassLimits(limits));
}

GpuDevice::GpuDevice(std::string name, const ModelConfig& config, const GpuDeviceLimits& limits)
    : name_(std::move(name)),
      limits_(limits),
      staging_(kStagingBytes, "copies to the GPU"),
      inputs_(PassLimits(limits)),
      host_counts_(static_cast<uint64_t>(config.n_layers) * sizeof(GpuLayerCounts),
                   "counts of neurons"),
      counts_(host_counts_.size(), "counts of neurons"),
      vectors_memory_(GpuVectorsBytes(MaxInput(config, limits), kMaxKeptTokens),
                      "inputs of products"),
      batch_memory_(std::max<uint64_t>(BatchBytes(config, limits), 16), "inputs of a batch"),
      panel_(std::max<uint64_t>(PanelBytes(config, limits), 16), "weights of a batch"),
      ffn_scratch_(DownBytes(config, limits), "the FFN"),
      attention_scratch_(AttentionBytes(config, limits), "attention"),
      vocab_size_(config.vocab_size),
      best_(config.vocab_size),
      predictor_(limits.predicts ? std::make_unique<GpuPredictor>(PredictorLimits(config, limits))
                                 : nullptr),
      rope_cos_(RopeBytes(config, limits), "rotary angles"),
      rope_sin_(RopeBytes(config, limits), "rotary angles"),
      notes_(static_cast<size_t>(config.n_layers)) {
  allocated_bytes_ = ScratchBytes(config, limits);
  if (limits.max_tokens > kMaxKeptTokens) gemm_ = std::make_unique<GpuGemm>();
  stream_.Fill(counts_.as<void>(), 0, counts_.size());
  FillRopeTables(config);
}

GpuDevice::~GpuDevice() = default;

std::unique_ptr<KvCache> GpuDevice::MakeKvCache(const ModelConfig& config, DType dtype,
                                                int64_t n_pages) {
  return std::make_unique<PagedCache>(
      stream_, GpuKvCache::Shape{dtype, config.n_layers, config.n_kv_heads, config.head_dim,
                                 n_pages * kKvPageTokens});
}

// Attention's grid is made for so many positions: one graph serves while the context grows to
// twice its length.
int64_t GpuDevice::PositionsBucket(int64_t n_positions) const {
  const auto wanted = static_cast<uint64_t>(std::max(n_positions, kMinBucket));
  return std::min(static_cast<int64_t>(std::bit_ceil(wanted)), limits_.max_seq_len);
}

void GpuDevice::BeginPass(const Batch& batch, std::span<const BatchSegment> segments) {
  ForgetPrepared();
  n_tokens_ = batch.n_rows();
  bucket_ = PositionsBucket(batch.max_length());
  std::vector<GpuPassRow> rows;
  for (const BatchRow& row : batch.rows) {
    const auto page = static_cast<size_t>(row.position / kKvPageTokens);
    rows.push_back({.id = row.token,
                    .position = static_cast<int32_t>(row.position),
                    .slot = static_cast<int32_t>(batch.pages_of(row)[page] * kKvPageTokens +
                                                 row.position % kKvPageTokens)});
  }
  // Pages are listed up to the last position that a row of their sequence looks back to.
  std::vector<int64_t> n_pages(batch.sequences.size());
  for (const BatchSegment& segment : segments) {
    int64_t& n = n_pages[static_cast<size_t>(segment.sequence)];
    n = std::max(n, KvPagesFor(segment.first_position + segment.n_rows));
  }
  std::vector<int32_t> pages;
  std::vector<int32_t> first_pages;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    first_pages.push_back(static_cast<int32_t>(pages.size()));
    const auto used = batch.sequences[s].pages.first(static_cast<size_t>(n_pages[s]));
    pages.insert(pages.end(), used.begin(), used.end());
  }
  std::vector<GpuPassSegment> gpu_segments;
  for (const BatchSegment& segment : segments) {
    gpu_segments.push_back({.first_row = static_cast<int32_t>(segment.first_row),
                            .n_rows = static_cast<int32_t>(segment.n_rows),
                            .first_position = static_cast<int32_t>(segment.first_position),
                            .first_page = first_pages[static_cast<size_t>(segment.sequence)]});
  }
  inputs_.Set(rows, gpu_segments, pages);
  CountTraffic(BusLoad::kInputs, inputs_.SendPages(stream_));
  rows_sent_ = false;
  std::fill(notes_.begin(), notes_.end(), FfnNote{});
}

void GpuDevice::Run(int64_t key, const std::function<void()>& enqueue) {
  const GpuPass pass = inputs_.pass();
  const Shape shape{key, bucket_, pass.n_segments, pass.max_segment_rows, timed_};
  auto kept = kept_.find(shape);
  ForgetPrepared();
  if (kept == kept_.end()) {
    const BusTraffic before = std::exchange(traffic_, BusTraffic{});
    GraphCapture capture(stream_);
    SentPass();
    enqueue();
    const auto marks = timed_ ? marks_->notes() : std::vector<GpuPassMarks::Note>{};
    kept = kept_.emplace(shape, Kept{capture.Finish(), notes_, marks, traffic_}).first;
    traffic_ = before;
  }
  notes_ = kept->second.notes;
  traffic_ += kept->second.traffic;
  if (timed_) marks_->set_notes(kept->second.marks);
  kept->second.graph.Launch(stream_);
  ForgetPrepared();
}

GpuPass GpuDevice::SentPass() {
  if (!rows_sent_) CountTraffic(BusLoad::kInputs, inputs_.SendRows(stream_));
  rows_sent_ = true;
  return inputs_.pass();
}

PassMarker* GpuDevice::TimePasses(bool on) {
  timed_ = on;
  if (!on) return nullptr;
  if (marks_ == nullptr) {
    marks_ = std::make_unique<GpuPassMarks>(stream_, static_cast<int64_t>(notes_.size()));
  }
  marks_->MeasureClock();
  return marks_.get();
}

void GpuDevice::Finish() {
  stream_.Copy(host_counts_.device<void>(), counts_.as<void>(), counts_.size());
  CountTraffic(BusLoad::kCounts, counts_.size());
  if (timed_) marks_->Collect();
  stream_.Synchronize();
}

FfnCount GpuDevice::CountOf(int64_t layer) const {
  const FfnNote& note = notes_[static_cast<size_t>(layer)];
  if (note.n_tokens == 0) return {};
  const GpuLayerCounts& counts = host_counts_.host<GpuLayerCounts>()[layer];
  const int64_t all = note.n_tokens * note.n_neurons;
  // Neurons count one by one where they do on the CPU: where a predictor names them, or in passes
  // of very few tokens.
  const bool by_rows = note.listed || note.n_tokens < kGemmMinTokens;
  return {.tokens = by_rows ? note.n_tokens : 0,
          .gates = note.listed ? counts.wanted : all,
          .active = note.skips ? counts.active : all,
          .hits = note.audited ? counts.audit.hits : 0,
          .missed = note.audited ? counts.audit.missed : 0};
}

void GpuDevice::Embed(const Lane& /*lane*/, const TensorView& table, std::span<const int32_t> ids,
                      float* x) {
  ForgetPrepared();
  const auto n = static_cast<int64_t>(ids.size());
  CHECK(n == n_tokens_);
  CountTraffic(BusLoad::kEmbedding, static_cast<uint64_t>(n * table.row_stride_bytes));
  GpuEmbed(stream_, MatrixOf(table), SentPass(), x);
}

void GpuDevice::RmsNorm(const Lane& /*lane*/, const float* x, const float* weight, float eps,
                        int64_t n, int64_t d, float* out) {
  ForgetPrepared();
  if (IsBatch(n)) {
    GpuRmsNorm(stream_, out, x, weight, eps, n, d);
    return;
  }
  vectors_ = MakeGpuVectors(vectors_memory_.as<void>(), d, n);
  GpuRmsNormPrepare(stream_, x, {weight, eps, out}, n, vectors_);
  prepared_ = {out, n};
}

const GpuVectors& GpuDevice::Prepare(const float* x, int64_t n, int64_t d) {
  vectors_ = MakeGpuVectors(vectors_memory_.as<void>(), d, n);
  GpuPrepare(stream_, x, n, PrepareOp::kCopy, vectors_);
  return vectors_;
}

const GpuVectors& GpuDevice::PreparedOrPrepare(const float* x, int64_t n, int64_t d) {
  const Prepared last = std::exchange(prepared_, {});
  const bool same = last.x == x && last.n_tokens == n && vectors_.cols == d;
  return same ? vectors_ : Prepare(x, n, d);
}

const GpuBatch& GpuDevice::PrepareBatch(const float* x, int64_t n, int64_t d) {
  batch_ = MakeGpuBatch(batch_memory_.as<void>(), d, n);
  GpuPrepareBatch(stream_, x, n, batch_);
  return batch_;
}

void GpuDevice::Linear(const Lane& /*lane*/, std::span<const LinearOp> ops, const float* x,
                       int64_t n) {
  if (IsBatch(n)) {
    ForgetPrepared();
    const GpuBatch& batch = PrepareBatch(x, n, ops.front().weights->w.cols);
    for (const LinearOp& op : ops) {
      GpuBatchRows(stream_, *gemm_, MatrixOf(op.weights->w), op.weights->bias, batch, n, Panel(),
                   op.out);
    }
    return;
  }
  std::vector<GpuMatvecOp> products;
  for (const LinearOp& op : ops) {
    products.push_back({MatrixOf(op.weights->w), op.weights->bias, op.out});
  }
  const GpuVectors& vectors = PreparedOrPrepare(x, n, ops.front().weights->w.cols);
  GpuMatvec(stream_, products, vectors, n);
}

void GpuDevice::RopeAppend(const Lane& /*lane*/, const RopeOp& rope, const KvCache& cache,
                           const AttentionOp& op, float* q, float* k, const float* v) {
  ForgetPrepared();
  const GpuRope angles{rope.pairing, rope.rot_dim, rope_cos_.as<float>(), rope_sin_.as<float>()};
  GpuRopeAppend(stream_, angles, static_cast<const PagedCache&>(cache).Layer(op.layer), SentPass(),
                op.n_heads, q, k, v);
}

void GpuDevice::Attend(const Lane& /*lane*/, const KvCache& cache, const AttentionOp& op,
                       const float* q, float* out) {
  ForgetPrepared();
  const GpuKvLayer kv = static_cast<const PagedCache&>(cache).Layer(op.layer);
  if (IsBatch(op.n())) {
    GpuAttendMany(stream_, kv, SentPass(), op.n_heads, q, out);
  } else {
    GpuAttendFew(stream_, kv, SentPass(), op.n_heads, bucket_, q, attention_scratch_.as<void>(),
                 out);
  }
}

void GpuDevice::Add(const Lane& /*lane*/, float* x, std::span<const float* const> ys, int64_t n) {
  ForgetPrepared();
  for (const float* y : ys) GpuAdd(stream_, x, y, n);
}

void GpuDevice::AddRmsNorm(const Lane& /*lane*/, float* x, const float* y, const float* weight,
                           float eps, int64_t n, int64_t d, float* out) {
  ForgetPrepared();
  if (IsBatch(n)) {
    GpuAddRmsNorm(stream_, x, y, weight, eps, n, d, out);
    return;
  }
  vectors_ = MakeGpuVectors(vectors_memory_.as<void>(), d, n);
  GpuAddRmsNormPrepare(stream_, x, y, {weight, eps, out}, n, vectors_);
  prepared_ = {out, n};
}

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
  GateAndUp(op, list, skip, vectors, n, state);
  lane.Mark(PassPart::kGate);
  Down(op, skip, n, state);
  lane.Mark(PassPart::kDown);
  return {};  // known when it is finished: CountOf
}

void GpuDevice::BatchFfn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                         const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  const GpuBatch& batch = PrepareBatch(x, n, slice.gate.cols);
  GpuBatchRows(stream_, *gemm_, MatrixOf(slice.gate), nullptr, batch, n, Panel(), state.gate);
  GpuBatchRows(stream_, *gemm_, MatrixOf(slice.up), nullptr, batch, n, Panel(), state.up);
  GpuActivateMultiply(stream_, op.activation, slice.gate_bias, state.up, n, slice.n_neurons,
                      state.gate);
  lane.Mark(PassPart::kGate);
  const GpuBatch& h = PrepareBatch(state.gate, n, slice.n_neurons);
  if (slice.down_layout == DownLayout::kStock) {
    GpuBatchRows(stream_, *gemm_, MatrixOf(slice.down), nullptr, h, n, Panel(), state.y);
  } else {
    GpuBatchColumns(stream_, *gemm_, MatrixOf(slice.down), h, n, Panel(), state.y);
  }
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
  GpuAuditList(stream_, list, state.up, slice.gate_bias, op.activation, n, slice.n_neurons,
               &counts->audit);
  return list;
}

void GpuDevice::GateAndUp(const FfnOp& op, const GpuNeuronList& list, GpuSkip skip,
                          const GpuVectors& x, int64_t n, const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  if (slice.gate.dtype == slice.up.dtype) {
    const GpuGateUp weights{MatrixOf(slice.gate), MatrixOf(slice.up), slice.gate_bias,
                            op.activation};
    GpuFfnGateUp(stream_, weights, skip, list, x, n, state.gate);
    return;
  }
  // Types that no kernel takes together: everything is computed, and what nobody wants dropped.
  const GpuMatvecOp both[] = {{MatrixOf(slice.gate), nullptr, state.gate},
                              {MatrixOf(slice.up), nullptr, state.up}};
  GpuMatvec(stream_, both, x, n);
  GpuActivateMultiply(stream_, op.activation, slice.gate_bias, state.up, n, slice.n_neurons,
                      state.gate);
  if (list.rows != nullptr) GpuDropUnwanted(stream_, list, n, slice.n_neurons, state.gate);
}

void GpuDevice::Down(const FfnOp& op, GpuSkip skip, int64_t n, const FfnState& state) {
  const FfnSlice& slice = *op.slice;
  if (slice.down_layout == DownLayout::kStock) {
    const GpuMatvecOp down{MatrixOf(slice.down), nullptr, state.y};
    GpuMatvec(stream_, {&down, 1}, Prepare(state.gate, n, slice.n_neurons), n);
    return;
  }
  GpuFfnDown(stream_, MatrixOf(slice.down), skip, state.gate, n, ffn_scratch_.as<void>(), state.y,
             &CountsAt(op.layer)->active);
}

}  // namespace thermocline
