#include "runtime/device/gpu/gpu_device.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "gpu_kernels/products/matvec.h"
#include "gpu_kernels/tokens/attention.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "gpu_kernels/tokens/embedding.h"
#include "gpu_kernels/tokens/norms.h"
#include "gpu_kernels/tokens/streams.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_pass_tables.h"
#include "runtime/device/gpu/gpu_rows.h"

namespace thermocline {
namespace {

constexpr uint64_t kStagingBytes = 8 << 20;
constexpr uint64_t kPanelBytes = 32 << 20;
constexpr int64_t kMinBucket = 512;  // positions

static_assert(kMaxKeptRows == kMaxKeptTokens);
static_assert(kGpuKvPageTokens == kKvPageTokens);
static_assert(kMaxGpuStreams >= kMaxStreams);

// Longest input of a product.
int64_t MaxInput(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return std::max({c.d_model, c.q_dim(), c.low_dim(), limits.max_neurons});
}

// Returns the most that `bytes` says of a matrix whose rows are added up, of any type that fits:
// down projections, and where there are others by column those.
template <typename Bytes>
uint64_t MostOfColumns(const ModelConfig& c, const GpuDeviceLimits& limits, const Bytes& bytes) {
  std::vector<std::pair<int64_t, int64_t>> shapes = {{limits.max_neurons, c.d_model}};
  if (limits.by_column) {
    shapes.insert(shapes.end(), {{c.d_model, c.q_dim()},
                                 {c.d_model, c.kv_dim()},
                                 {c.q_dim(), c.d_model},
                                 {c.d_model, limits.max_neurons}});
  }
  uint64_t most = 0;
  for (const DType dtype : kWeightDTypes) {
    for (const auto& [rows, cols] : shapes) {
      if (cols % GetDTypeInfo(dtype).block_elems != 0) continue;
      most = std::max(most, bytes(MakeGpuMatrix(nullptr, dtype, rows, cols)));
    }
  }
  return most;
}

uint64_t DownBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return MostOfColumns(c, limits,
                       [](const GpuMatrix& w) { return GpuFfnDownBytes(w, kMaxKeptTokens); });
}

GpuChannels::Limits ChannelLimits(const ModelConfig& c, const GpuDeviceLimits& limits) {
  const auto bytes = [](const GpuMatrix& w) { return GpuColumnsBytes(w, kGemmMinTokens - 1); };
  return {c.n_layers, std::max(limits.max_tokens, kMaxKeptTokens), MaxInput(c, limits),
          MostOfColumns(c, limits, bytes)};
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

// Of all rotations, cos and sin.
uint64_t RopeBytes(const ModelConfig& c, const GpuDeviceLimits& limits) {
  const int64_t n = c.rope.rot_dim / 2 + (c.has_local_rope() ? c.local_rope.rot_dim / 2 : 0);
  return static_cast<uint64_t>(2 * limits.max_seq_len * n) * sizeof(float);
}

GpuNorm NormOf(const NormOp& norm) {
  const auto kind = norm.kind == NormKind::kRms ? GpuNormKind::kRms : GpuNormKind::kLayer;
  return {kind, norm.weights.weight, norm.weights.bias, norm.eps};
}

GpuStreams StreamsOf(const StreamsOp& op, int64_t n, int64_t d) {
  return {.streams = op.streams,
          .route = op.route,
          .coef = op.coef,
          .n_streams = op.n_streams,
          .active = op.active,
          .n_rows = n,
          .width = d};
}

GpuPassLimits PassLimits(const ModelConfig& c, const GpuDeviceLimits& limits) {
  const int64_t n_tables = limits.n_kv_classes + (c.has_encoder() ? 1 : 0);
  return {.max_rows = limits.max_tokens,
          .max_pages = n_tables * limits.max_sequences * KvPagesFor(limits.max_seq_len) +
                       limits.n_kv_classes * kMostBranchPlaces,
          .n_classes = limits.n_kv_classes};
}

GpuPredictor::Limits PredictorLimits(const ModelConfig& c, const GpuDeviceLimits& limits) {
  return {limits.max_neurons, kMaxKeptTokens, limits.max_rank, c.d_model};
}

GpuLowRank::Limits LowRankLimits(const GpuDeviceLimits& limits) {
  return {std::max(limits.max_tokens, kMaxKeptTokens), limits.n_adapters, limits.adapter_rank};
}

}  // namespace

// Keys and values in the form of gpu_kernels/tokens/kv_planes.h.
class GpuDevice::PagedCache final : public KvCache {
 public:
  PagedCache(Stream& stream, const ModelConfig& config, DType dtype, const KvLayout& layout,
             size_t tier)
      : stream_(stream), dtype_(dtype), layout_(layout), classes_(layout.classes.size()) {
    for (size_t c = 0; c < layout.classes.size(); ++c) {
      if (layout.classes[c].tier != tier) continue;
      const GpuKvCache::Shape shape{dtype, layout.n_layers(c), config.n_kv_heads, config.head_dim,
                                    layout.classes[c].n_pages * kKvPageTokens};
      classes_[c].emplace(shape);
      allocated_bytes_ += GpuKvCache::Bytes(shape);
    }
  }
  DType dtype() const override { return dtype_; }
  const KvLayout& layout() const override { return layout_; }
  uint64_t allocated_bytes() const override { return allocated_bytes_; }
  void CopyPosition(const KvPositionCopy& copy) override {
    Of(copy.page_class).CopySlot(stream_, copy.from, copy.to);
  }
  void CopyPage(const KvPageCopy& copy) override {
    Of(copy.page_class).CopyPage(stream_, copy.from, copy.to);
  }
  // Where blocks are stored, scales lie apart from what they scale.
  std::string page_form() const override {
    return dtype_ == DType::kQ8_0 ? "q8_0, scales behind" : KvCache::page_form();
  }
  uint64_t PageBytes(size_t page_class) const override { return Of(page_class).PageBytes(); }
  void ReadPage(size_t page_class, int32_t page, std::span<std::byte> to) const override {
    CHECK(to.size() == PageBytes(page_class));
    Of(page_class).ReadPage(stream_, page, to.data());
  }
  void WritePage(size_t page_class, int32_t page, std::span<const std::byte> from) override {
    CHECK(from.size() == PageBytes(page_class));
    Of(page_class).WritePage(stream_, page, from.data());
  }
  GpuKvLayer Layer(int64_t layer) const {
    const KvLayerPlace& place = layout_.PlaceOf(layer);
    return Of(place.page_class).Layer(place.layer);
  }

 private:
  const GpuKvCache& Of(size_t page_class) const { return classes_[page_class].value(); }

  Stream& stream_;
  DType dtype_;
  KvLayout layout_;
  std::vector<std::optional<GpuKvCache>> classes_;  // those of other tiers are not there
  uint64_t allocated_bytes_ = 0;
};

uint64_t GpuDevice::ScratchBytes(const ModelConfig& config, const GpuDeviceLimits& limits) {
  return GpuVectorsBytes(MaxInput(config, limits), kMaxKeptTokens) + DownBytes(config, limits) +
         BatchBytes(config, limits) + PanelBytes(config, limits) + AttentionBytes(config, limits) +
         RopeBytes(config, limits) +
         (limits.predicts ? GpuPredictor::Bytes(PredictorLimits(config, limits)) : 0) +
         (limits.n_adapters > 0 ? GpuLowRank::Bytes(LowRankLimits(limits)) : 0) +
         (limits.cuts || limits.by_column ? GpuChannels::Bytes(ChannelLimits(config, limits)) : 0) +
         GpuBest::Bytes(config.vocab_size, limits.max_best_rows) +
         (limits.max_tokens > kMaxKeptTokens ? GpuGemm::kWorkspaceBytes : 0) +
         static_cast<uint64_t>(config.n_layers) * sizeof(GpuLayerCounts) +
         GpuPassInputs::DeviceBytes(PassLimits(config, limits));
}

GpuDevice::GpuDevice(std::string name, const ModelConfig& config, const GpuDeviceLimits& limits)
    : name_(std::move(name)),
      limits_(limits),
      staging_(kStagingBytes, "copies to the GPU"),
      inputs_(PassLimits(config, limits)),
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
      best_(config.vocab_size, limits.max_best_rows),
      predictor_(limits.predicts ? std::make_unique<GpuPredictor>(PredictorLimits(config, limits))
                                 : nullptr),
      low_rank_(limits.n_adapters > 0 ? std::make_unique<GpuLowRank>(LowRankLimits(limits))
                                      : nullptr),
      channels_(limits.cuts || limits.by_column
                    ? std::make_unique<GpuChannels>(ChannelLimits(config, limits))
                    : nullptr),
      main_rope_(MakeRopeTables(config.rope)),
      notes_(static_cast<size_t>(config.n_layers)) {
  allocated_bytes_ = ScratchBytes(config, limits);
  if (limits.max_tokens > kMaxKeptTokens) gemm_ = std::make_unique<GpuGemm>();
  stream_.Fill(counts_.as<void>(), 0, counts_.size());
  if (config.has_local_rope()) local_rope_ = MakeRopeTables(config.local_rope);
}

GpuDevice::~GpuDevice() = default;

std::unique_ptr<KvCache> GpuDevice::MakeKvCache(const ModelConfig& config, DType dtype,
                                                const KvLayout& layout, size_t tier) {
  CHECK(static_cast<int64_t>(layout.classes.size()) == limits_.n_kv_classes);
  return std::make_unique<PagedCache>(stream_, config, dtype, layout, tier);
}

// Attention's grid is made for so many positions: one graph serves while the context grows to
// twice its length.
int64_t GpuDevice::PositionsBucket(int64_t n_positions) const {
  const auto wanted = static_cast<uint64_t>(std::max(n_positions, kMinBucket));
  return std::min(static_cast<int64_t>(std::bit_ceil(wanted)), limits_.max_seq_len);
}

void GpuDevice::BeginPass(const Batch& batch, std::span<const BatchSegment> segments,
                          const AdapterRows* adapter_rows) {
  ForgetPrepared();
  adapts_ = adapter_rows != nullptr;
  CHECK(!adapts_ || low_rank_ != nullptr);
  if (adapts_) low_rank_->Set(*adapter_rows, batch.n_rows());
  n_tokens_ = batch.n_rows();
  bucket_ = PositionsBucket(batch.max_length());
  const GpuPassTables tables(batch, segments, limits_.n_kv_classes);
  inputs_.Set(tables.classes(), tables.pages());
  CountTraffic(BusLoad::kInputs, inputs_.SendPages(stream_));
  rows_sent_ = false;
  std::fill(notes_.begin(), notes_.end(), FfnNote{});
  if (channels_ != nullptr) channels_->BeginPass();
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
    const auto cuts = channels_ != nullptr ? channels_->notes() : std::vector<GpuChannels::Note>{};
    kept = kept_.emplace(shape, Kept{capture.Finish(), notes_, marks, cuts, traffic_}).first;
    traffic_ = before;
  }
  notes_ = kept->second.notes;
  if (channels_ != nullptr) channels_->set_notes(kept->second.cuts);
  traffic_ += kept->second.traffic;
  if (timed_) marks_->set_notes(kept->second.marks);
  kept->second.graph.Launch(stream_);
  ForgetPrepared();
}

GpuPass GpuDevice::SentPass(size_t page_class) {
  if (!rows_sent_) {
    CountTraffic(BusLoad::kInputs, inputs_.SendRows(stream_));
    if (adapts_) CountTraffic(BusLoad::kInputs, low_rank_->Send(stream_));
  }
  rows_sent_ = true;
  return inputs_.pass(page_class);
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
  if (channels_ != nullptr) CountTraffic(BusLoad::kCounts, channels_->SendCounts(stream_));
  if (timed_) marks_->Collect();
  stream_.Synchronize();
  if (channels_ != nullptr) channels_->AddCounts();
}

FfnCount GpuDevice::CountOf(int64_t layer) const {
  const FfnNote& note = notes_[static_cast<size_t>(layer)];
  if (note.n_tokens == 0) return {};
  const GpuLayerCounts& counts = host_counts_.host<GpuLayerCounts>()[layer];
  const int64_t all = note.n_tokens * note.n_neurons;
  // Neurons count one by one where they do on the CPU: where a predictor names them, or in passes
  // of few tokens.
  const bool by_rows = note.listed || note.n_tokens <= kFewTokens;
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

void GpuDevice::AddPositions(const Lane& /*lane*/, const TensorView& table, const Batch& batch,
                             int64_t offset, float* x) {
  ForgetPrepared();
  CHECK(limits_.max_seq_len + offset <= table.rows);  // for a graph outlives this batch
  CountTraffic(BusLoad::kEmbedding, static_cast<uint64_t>(batch.n_rows() * table.row_stride_bytes));
  GpuAddPositions(stream_, MatrixOf(table), SentPass(), offset, x);
}

void GpuDevice::AddTableRows(const Lane& /*lane*/, const TensorView& table,
                             std::span<const int32_t> ids, float scale, float* x) {
  ForgetPrepared();
  const auto n = static_cast<int64_t>(ids.size());
  CHECK(n == n_tokens_);
  CountTraffic(BusLoad::kEmbedding, static_cast<uint64_t>(n * table.row_stride_bytes));
  GpuAddTableRows(stream_, MatrixOf(table), SentPass(), scale, x);
}

void GpuDevice::Norm(const Lane& /*lane*/, const NormOp& norm, const float* x, int64_t n, int64_t d,
                     float* out) {
  ForgetPrepared();
  if (norm.groups > 1) {
    GpuNormParts(stream_, NormOf(norm), norm.own_weights, x, n, norm.groups, d / norm.groups, out);
    return;
  }
  if (IsBatch(n)) {
    GpuNormRows(stream_, NormOf(norm), x, n, d, out);
    return;
  }
  vectors_ = MakeGpuVectors(vectors_memory_.as<void>(), d, n);
  GpuNormPrepare(stream_, x, {NormOf(norm), out}, n, vectors_);
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
  const auto of_channels = [](const LinearOp& op) {
    return op.cut != nullptr || op.weights->by_column;
  };
  if (std::ranges::any_of(ops, of_channels)) {
    for (const LinearOp& op : ops) LinearOfChannels(op, x, n);
    return;
  }
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

// Few tokens read the channels that are left, each token its own. Of more a weight is read once for
// all, and what is left out is 0.
void GpuDevice::LinearOfChannels(const LinearOp& op, const float* x, int64_t n) {
  ForgetPrepared();
  const LinearWeights& weights = *op.weights;
  const GpuMatrix w = MatrixOf(weights.w);
  const int64_t d_in = weights.d_in();
  const GpuRowCut cut = op.cut != nullptr ? GpuChannels::CutOf(*op.cut, SentPass()) : GpuRowCut{};
  if (weights.by_column && n < kGemmMinTokens) {
    const GpuChannelList list = op.cut != nullptr
                                    ? channels_->List(stream_, *op.cut, cut, x, n, d_in, nullptr)
                                    : GpuChannelList{.values = x};
    channels_->Multiply(stream_, w, list, n, weights.bias, op.out);
    return;
  }
  if (op.cut != nullptr) x = channels_->Cut(stream_, *op.cut, cut, x, n, d_in);
  if (!weights.by_column && IsBatch(n)) {
    GpuBatchRows(stream_, *gemm_, w, weights.bias, PrepareBatch(x, n, d_in), n, Panel(), op.out);
    return;
  }
  if (!weights.by_column) {
    const GpuMatvecOp product{w, weights.bias, op.out};
    GpuMatvec(stream_, {&product, 1}, Prepare(x, n, d_in), n);
    return;
  }
  if (IsBatch(n)) {
    GpuBatchColumns(stream_, *gemm_, w, PrepareBatch(x, n, d_in), n, Panel(), op.out);
  } else {
    GpuFfnDown(stream_, w, GpuSkip::kInactive, x, n, ffn_scratch_.as<void>(), op.out, nullptr);
  }
  if (weights.bias != nullptr) GpuAddBias(stream_, op.out, weights.bias, n, weights.d_out());
}

void GpuDevice::RopeAppend(const Lane& /*lane*/, const RopeOp& rope, const KvCache& cache,
                           const AttentionOp& op, float* q, float* k, const float* v) {
  ForgetPrepared();
  const bool local = rope.layer_rope == LayerRope::kLocal;
  const RopeTables& tables = local ? local_rope_.value() : main_rope_;
  const GpuRope angles{rope.pairing, rope.rot_dim, tables.cos.as<float>(), tables.sin.as<float>()};
  GpuRopeAppend(stream_, angles, static_cast<const PagedCache&>(cache).Layer(op.layer),
                SentPass(op.page_class), op.n_heads, q, k, v);
}

void GpuDevice::Attend(const Lane& /*lane*/, const KvCache& cache, const AttentionOp& op,
                       const float* q, float* out) {
  ForgetPrepared();
  const GpuKvLayer kv = static_cast<const PagedCache&>(cache).Layer(op.layer);
  const GpuAttention attention{
      op.n_heads,           op.scale,       op.soft_cap, op.window, op.bias.by_distance,
      op.bias.max_distance, op.sees_encoder};
  if (IsBatch(op.n())) {
    GpuAttendMany(stream_, kv, SentPass(op.page_class), attention, q, out);
  } else {
    GpuAttendFew(stream_, kv, SentPass(op.page_class), attention, bucket_, q,
                 attention_scratch_.as<void>(), out);
  }
}

void GpuDevice::Add(const Lane& /*lane*/, float* x, std::span<const float* const> ys, int64_t n) {
  ForgetPrepared();
  for (const float* y : ys) GpuAdd(stream_, x, y, n);
}

void GpuDevice::AddNorm(const Lane& /*lane*/, const NormOp& norm, float* x, const float* y,
                        int64_t n, int64_t d, float* out) {
  ForgetPrepared();
  CHECK(norm.groups == 1);
  if (IsBatch(n)) {
    GpuAddNormRows(stream_, NormOf(norm), x, y, n, d, out);
    return;
  }
  vectors_ = MakeGpuVectors(vectors_memory_.as<void>(), d, n);
  GpuAddNormPrepare(stream_, x, y, {NormOf(norm), out}, n, vectors_);
  prepared_ = {out, n};
}

void GpuDevice::AddBias(const Lane& /*lane*/, float* x, const float* bias, int64_t n, int64_t d) {
  ForgetPrepared();
  GpuAddBias(stream_, x, bias, n, d);
}

void GpuDevice::Scale(const Lane& /*lane*/, float* x, float scale, float soft_cap, int64_t n) {
  ForgetPrepared();
  GpuScale(stream_, x, scale, soft_cap, n);
}

void GpuDevice::MultiplyRows(const Lane& /*lane*/, const float* x, const float* by, int64_t n,
                             int64_t d, float* out) {
  ForgetPrepared();
  GpuMultiplyRows(stream_, x, by, n, d, out);
}

void GpuDevice::ActivateMultiply(const Lane& /*lane*/, Activation activation, float* x,
                                 const float* by, int64_t by_stride, int64_t n, int64_t d) {
  ForgetPrepared();
  GpuActivateMultiplyRows(stream_, {activation}, x, by, by_stride, n, d);
}

void GpuDevice::MatchRms(const Lane& /*lane*/, const float* like, int64_t n, int64_t d, float* x) {
  ForgetPrepared();
  GpuMatchRms(stream_, like, static_cast<float>(kLeastMeanSquare), n, d, x);
}

void GpuDevice::PredictStreams(const Lane& /*lane*/, const StreamsOp& op, int64_t n, int64_t d,
                               float* x) {
  ForgetPrepared();
  GpuPredictStreams(stream_, StreamsOf(op, n, d), x);
}

void GpuDevice::CorrectStreams(const Lane& /*lane*/, const StreamsOp& op, int64_t n, int64_t d,
                               const float* x) {
  ForgetPrepared();
  GpuCorrectStreams(stream_, StreamsOf(op, n, d), x);
}

}  // namespace thermocline
