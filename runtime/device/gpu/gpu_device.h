// The GPU as the fast tier. Steps enqueue kernels on one stream; those of few tokens are captured
// as a CUDA graph once and replayed, so that a token of decode costs the host one launch.
//
// Its matrices have a form of their own (gpu_kernels/products/weight_layout.h): a TensorView in its
// memory says dtype, rows, cols and the stride of that form.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/batch_gemm.h"
#include "gpu_kernels/products/ffn.h"
#include "gpu_kernels/tokens/kv_planes.h"
#include "gpu_kernels/tokens/rope_append.h"
#include "runtime/device/device.h"
#include "runtime/device/gpu/gpu_best.h"
#include "runtime/device/gpu/gpu_channels.h"
#include "runtime/device/gpu/gpu_kv_reads.h"
#include "runtime/device/gpu/gpu_low_rank.h"
#include "runtime/device/gpu/gpu_pass_marks.h"
#include "runtime/device/gpu/gpu_predictor.h"

namespace thermocline {

struct GpuDeviceLimits {
  int64_t max_tokens = 1;  // of a pass
  int64_t max_seq_len = 0;
  int64_t max_neurons = 0;    // of an FFN slice
  int64_t max_sequences = 1;  // of a pass
  int64_t max_best_rows = 1;  // of a pass, whose best logits may be wanted
  int64_t n_kv_classes = 1;   // of pages (runtime/device/kv_layout.h)
  bool predicts = false;      // a predictor names neurons of such slices
  int64_t max_rank = 0;       // of its matrices; 0: none
  int64_t n_adapters = 0;     // of the model
  int64_t adapter_rank = 0;   // of all of them together
  bool cuts = false;          // channels are left out of inputs
  bool by_column = false;     // matrices are stored by column
};

class GpuDevice final : public QueuedDevice {
 public:
  // Throws Error when the GPU cannot be used or has too little memory. config must outlive it.
  GpuDevice(std::string name, const ModelConfig& config, const GpuDeviceLimits& limits);
  ~GpuDevice() override;

  // Its own memory beside weights, cache and the executor's buffers.
  static uint64_t ScratchBytes(const ModelConfig& config, const GpuDeviceLimits& limits);

  const std::string& name() const override { return name_; }
  void* Allocate(uint64_t n_bytes, const std::string& purpose) override;
  void Upload(void* destination, const void* source, uint64_t n_bytes) override;
  uint64_t allocated_bytes() const override { return allocated_bytes_; }
  TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                       const std::string& purpose) override;
  std::unique_ptr<RowExchange> MakeRowExchange(const RowExchangeLimits& limits) override;
  DeviceSigns StoreSigns(const SignRows& rows) override { return StoreGpuSigns(rows, *this); }
  TensorView StoreTable(const TensorView& source) override;
  uint64_t host_bytes() const override { return host_bytes_; }
  std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                       const KvLayout& layout, size_t tier) override;

  void BeginPass(const Batch& batch, std::span<const BatchSegment> segments,
                 const AdapterRows* adapter_rows) override;
  void Run(int64_t key, const std::function<void()>& enqueue) override;
  void Finish() override;
  FfnCount CountOf(int64_t layer) const override;
  int64_t max_best() const override { return GpuBest::MaxTokens(vocab_size_); }
  void FindBest(const float* logits, int64_t n_rows, int64_t k) override {
    best_.Find(stream_, logits, n_rows, k);
    CountTraffic(BusLoad::kResults, static_cast<uint64_t>(k) * sizeof(TokenLogit));
  }
  std::vector<TokenLogit> Best(int64_t row, int64_t k) const override {
    return best_.Found(row, k);
  }
  void Download(void* destination, const void* source, uint64_t n_bytes) override;
  std::unique_ptr<Handover> MakeHandover(int64_t max_tokens, int64_t d_model,
                                         bool predictor_apart) override;
  std::unique_ptr<WeightStream> MakeWeightStream(const WeightStreamLimits& limits) override;
  PassMarker* TimePasses(bool on) override;
  void BeginTimes() override { marks_->Start(); }
  std::vector<PassSpan> PassSpans() const override { return marks_->Spans(); }
  const BusTraffic& bus_traffic() const override { return traffic_; }

  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override;
  void AddPositions(const Lane& lane, const TensorView& table, const Batch& batch, int64_t offset,
                    float* x) override;
  void Norm(const Lane& lane, const NormOp& norm, const float* x, int64_t n, int64_t d,
            float* out) override;
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) override;
  void AddLowRank(const Lane& lane, const AdapterRows& rows,
                  std::span<const AttentionLowRank> adapters, std::span<const LowRankOp> ops,
                  const float* x, int64_t n, int64_t d_in) override;
  void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache, const AttentionOp& op,
                  float* q, float* k, const float* v) override;
  void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
              float* out) override;
  KvReads ReadsOf(const AttentionOp& op) const override { return GpuKvReads(op, IsBatch(op.n())); }
  FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
               const FfnState& state) override;
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override;
  void AddNorm(const Lane& lane, const NormOp& norm, float* x, const float* y, int64_t n, int64_t d,
               float* out) override;
  void AddBias(const Lane& lane, float* x, const float* bias, int64_t n, int64_t d) override;
  void Scale(const Lane& lane, float* x, float scale, float soft_cap, int64_t n) override;
  void AddTableRows(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                    float scale, float* x) override;
  void MultiplyRows(const Lane& lane, const float* x, const float* by, int64_t n, int64_t d,
                    float* out) override;
  void ActivateMultiply(const Lane& lane, Activation activation, float* x, const float* by,
                        int64_t by_stride, int64_t n, int64_t d) override;
  void MatchRms(const Lane& lane, const float* like, int64_t n, int64_t d, float* x) override;
  void PredictStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                      float* x) override;
  void CorrectStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                      const float* x) override;

  // For the hand-over and the weight stream.
  Stream& stream() { return stream_; }
  GpuGemm& gemm() { return *gemm_; }  // where batches come
  GpuPanel Panel() const { return {panel_.as<void>(), panel_.size()}; }
  int64_t n_tokens() const { return n_tokens_; }
  bool HasWork() { return !stream_.Finished(); }
  // What was enqueued moves so much; while a pass is captured, each time it is carried out.
  void CountTraffic(BusLoad load, uint64_t n_bytes) { traffic_.Add(load, n_bytes); }

 private:
  class PagedCache;
  // What a layer's FFN was asked to do, and what is counted while it does it.
  struct FfnNote {
    int64_t n_tokens = 0;
    int64_t n_neurons = 0;
    bool skips = false;
    bool listed = false;
    bool audited = false;
  };
  // The cos and sin of one of the model's rotations: (max_seq_len, rot_dim / 2) f32 each.
  struct RopeTables {
    DeviceMemory cos;
    DeviceMemory sin;
  };
  // The vectors that a norm has left for the pass behind it.
  struct Prepared {
    const float* x = nullptr;
    int64_t n_tokens = 0;
  };
  // Passes that launch the same kernels on the same grids.
  struct Shape {
    int64_t key;
    int64_t n_positions;
    int32_t n_segments;
    int32_t max_segment_rows;
    bool timed;
    bool operator<(const Shape& other) const {
      const auto all = [](const Shape& s) {
        return std::tuple(s.key, s.n_positions, s.n_segments, s.max_segment_rows, s.timed);
      };
      return all(*this) < all(other);
    }
  };
  struct Kept {
    Graph graph;
    std::vector<FfnNote> notes;
    std::vector<GpuPassMarks::Note> marks;
    std::vector<GpuChannels::Note> cuts;
    BusTraffic traffic;
  };

  // Large batches go through cuBLAS, which is not captured.
  static bool IsBatch(int64_t n) { return n > kMaxKeptTokens; }
  const GpuBatch& PrepareBatch(const float* x, int64_t n, int64_t d);
  // One product of which channels are cut, or with a matrix by column.
  void LinearOfChannels(const LinearOp& op, const float* x, int64_t n);
  // Gates and ups whose inputs are cut, or which are stored by column, each of all neurons.
  void GateAndUpOfChannels(const FfnOp& op, const float* x, int64_t n, const FfnState& state);
  // Down of what a cut keeps of h, or of all of it.
  void DownOfChannels(const FfnOp& op, int64_t n, const FfnState& state);
  // h of all neurons, of their gates and ups in `state`.
  void ActivateAll(const FfnOp& op, const float* x, int64_t n, const FfnState& state);
  // What is cut of h: by its own size, or what its gates have left 0. Null: nothing.
  std::pair<const ChannelCut*, GpuRowCut> HiddenCut(const FfnOp& op);
  void CutHidden(const FfnOp& op, int64_t n, const FfnState& state);
  void BatchFfn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                const FfnState& state);
  const GpuVectors& Prepare(const float* x, int64_t n, int64_t d);
  // Prepares x unless the op before has prepared it already. Every op calls this or
  // ForgetPrepared, so that nothing can write to x in between.
  const GpuVectors& PreparedOrPrepare(const float* x, int64_t n, int64_t d);
  void ForgetPrepared() { prepared_ = {}; }
  // The pass as kernels take it; its rows are sent before the first that asks.
  GpuPass SentPass(size_t page_class = 0);
  GpuLayerCounts* CountsAt(int64_t layer) const { return counts_.as<GpuLayerCounts>() + layer; }
  GpuNeuronList ListPredicted(const FfnOp& op, const GpuVectors& vectors, const float* x, int64_t n,
                              const FfnState& state);
  // vectors: x, prepared.
  void GateAndUp(const FfnOp& op, const GpuNeuronList& list, GpuSkip skip,
                 const GpuVectors& vectors, const float* x, int64_t n, const FfnState& state);
  void Down(const FfnOp& op, GpuSkip skip, int64_t n, const FfnState& state);
  // What a layer makes of all its gates, in state.gate, and of all its h.
  void CutGates(const FfnOp& op, int64_t n, const FfnState& state);
  void NormHidden(const FfnOp& op, int64_t n, const FfnState& state);
  // What adapters add, of those of a slice. Gates' lie in state.gate and ups' in state.up, beside
  // what is there or in its place; null where they add nothing.
  struct AddedToFfn {
    const float* gate = nullptr;
    const float* up = nullptr;
  };
  AddedToFfn AddToGateAndUp(const FfnOp& op, const float* x, const FfnState& state,
                            GpuLowRankInto into);
  void AddToAuditedGates(const FfnOp& op, const float* x, float* gates);
  // Of h in state.gate, to state.y.
  void AddToDown(const FfnOp& op, const FfnState& state);
  int64_t PositionsBucket(int64_t n_positions) const;
  RopeTables MakeRopeTables(const RopeConfig& rope);

  std::string name_;
  GpuDeviceLimits limits_;
  Stream stream_;
  std::vector<DeviceMemory> memory_;  // what Allocate hands out
  std::vector<MappedMemory> tables_;
  uint64_t allocated_bytes_ = 0;
  uint64_t host_bytes_ = 0;
  MappedMemory staging_;  // for packing weights and copying results
  GpuPassInputs inputs_;
  bool rows_sent_ = false;       // of the pass at hand
  MappedMemory host_counts_;     // (n_layers) GpuLayerCounts
  DeviceMemory counts_;          // the same
  DeviceMemory vectors_memory_;  // the input of the products at hand
  GpuVectors vectors_;
  Prepared prepared_;          // that vectors_ are
  DeviceMemory batch_memory_;  // the input of a batch's products
  GpuBatch batch_;
  DeviceMemory panel_;             // of weights, for a batch
  std::unique_ptr<GpuGemm> gemm_;  // where batches come
  DeviceMemory ffn_scratch_;       // of the down projection
  DeviceMemory attention_scratch_;
  int64_t vocab_size_;
  GpuBest best_;
  std::unique_ptr<GpuPredictor> predictor_;  // where neurons are predicted
  std::unique_ptr<GpuLowRank> low_rank_;     // where the model has adapters
  std::unique_ptr<GpuChannels> channels_;    // where channels are cut, or matrices lie by column
  bool adapts_ = false;                      // rows of the pass at hand use some
  RopeTables main_rope_;
  std::optional<RopeTables> local_rope_;
  int64_t n_tokens_ = 0;
  std::map<Shape, Kept> kept_;
  int64_t bucket_ = 0;  // positions that the passes at hand are made for
  std::vector<FfnNote> notes_;
  BusTraffic traffic_;
  std::unique_ptr<GpuPassMarks> marks_;  // once passes were timed
  bool timed_ = false;
};

}  // namespace thermocline
