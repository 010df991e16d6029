// The CPU as a device. Both tiers can be one: the slow tier always is, the fast tier is a second
// one where there is no GPU, so that the split, the hand-over and the merge are the same code
// everywhere.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "predictor/sign_predictor.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/panel_attention.h"
#include "runtime/device/cpu/panel_gemm.h"
#include "runtime/device/device.h"

namespace thermocline {

// From how many tokens on the kernels pack panels themselves. Rows are read once per token, panels
// once per batch, and that decides: on two threads, panels of 2, 3, 4 and 8 tokens take 1.04, 0.9,
// 0.8 and 0.5 of the time that the row kernels would take on rows kept in cache (Q8_0 and Q4_0; F16
// 1.2, 1.05, 1.0 and 0.7), and the row kernels do not find a whole matrix there (kernel_bench,
// cases gemm/...).
inline constexpr int64_t kPackedGemmMinTokens = 2;

// Predicted neurons are computed row by row in batches of up to this many tokens, as their lists
// overlap little. Larger batches touch nearly every neuron.
inline constexpr int64_t kListMaxTokens = 16;

// The most parts that a slice's neurons are cut into. The down rows of a part are summed together,
// and parts are added in their order. The cut depends on the model alone, so the result is the same
// for any number of lanes, and whichever lane took a part.
inline constexpr int64_t kFfnParts = 16;

// Floats beside the head_dim sums of a chunk of positions: its largest score, the sum of its
// weights, and what fills the cache line.
inline constexpr int64_t kChunkExtra = 16;

// Segments of at least this many tokens attend as panels, smaller ones query head by query head:
// few queries do not repay packing keys and values.
inline constexpr int64_t kPanelAttentionTokens = 16;

struct CpuDeviceLimits {
  int n_lanes = 1;         // lanes of the largest group that will run passes
  int64_t max_tokens = 1;  // tokens of a pass
  int64_t d_model = 0;
  int64_t max_d_in = 0;     // longest input of a matrix (d_model, d_ff, n_heads * head_dim)
  int64_t max_neurons = 0;  // neurons of an FFN slice
  int64_t max_seq_len = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  bool predicts = false;  // passes may have a predictor
  int64_t max_rank = 0;   // of the predictor's matrices

  int64_t KvChunk() const;       // positions whose attention is computed together
  int64_t MaxRowTokens() const;  // tokens of a pass that goes over its weights row by row
  uint64_t ScratchBytes(const KernelTable& kernels) const;
  // Whether passes are long enough to attend as panels, and the kernels for them are there.
  bool WantsPanelAttention(const KernelTable& kernels) const;
};

// Returns what a model's passes need at most. max_rank: of the predictor's matrices, 0 for one
// without, or kNoPredictor.
inline constexpr int64_t kNoPredictor = -1;
CpuDeviceLimits MakeCpuDeviceLimits(const ModelConfig& config, int64_t max_tokens,
                                    int64_t max_seq_len, int n_lanes,
                                    int64_t max_rank = kNoPredictor);

class CpuDevice final : public Device {
 public:
  CpuDevice(std::string name, const CpuDeviceLimits& limits);

  const std::string& name() const override { return name_; }
  void* Allocate(uint64_t n_bytes, const std::string& purpose) override;
  void Upload(void* destination, const void* source, uint64_t n_bytes) override;
  uint64_t allocated_bytes() const override { return allocated_bytes_; }
  TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                       const std::string& purpose) override;
  std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                       int64_t n_pages) override;

  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override;
  void RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
               int64_t d, float* out) override;
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) override;
  void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache, const AttentionOp& op,
                  float* q, float* k, const float* v) override;
  void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
              float* out) override;
  FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
               const FfnState& state) override;
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override;
  void AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight, float eps,
                  int64_t n, int64_t d, float* out) override;

 private:
  struct LaneScratch {
    AlignedBuffer prepared;  // up to MaxRowTokens activation vectors
    AlignedBuffer scores;    // (kv_chunk) f32
    AlignedBuffer chunks;    // (chunks of a context, head_dim + kChunkExtra) f32 of one query head
    AlignedBuffer head;      // one query head, prepared
    AlignedBuffer rows;      // (max_neurons + 16) i32: active neurons of the part at hand
    AlignedBuffer h;         // (max_neurons) f32: h of the active neurons
    AlignedBuffer inner;     // up to MaxRowTokens vectors between a predictor's matrices, prepared
    std::vector<SignInput> signs;  // (MaxRowTokens)
    std::unique_ptr<PanelGemm> gemm;
    std::unique_ptr<PanelAttention> attention;  // null where passes are too short for it
  };

  // ---- cpu_device.cc ----
  LaneScratch& scratch(const Lane& lane) { return *lanes_[static_cast<size_t>(lane.rank)]; }
  // Prepares x: (n, d), each token on its own. Token t lies at t * PreparedStride(form, d) of what
  // is returned.
  const std::byte* Prepare(const Lane& lane, VectorForm form, const float* x, int64_t n, int64_t d,
                           int slot = 0);
  int64_t PreparedStride(VectorForm form, int64_t d) const;
  void LinearRows(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n);
  void MultiplyRows(const LinearOp& op, const std::byte* prepared, int64_t stride, int64_t n,
                    int64_t begin, int64_t end) const;

  // ---- cpu_attention.cc ----
  struct HeadQuery;
  struct HeadRows;
  void AttendPanels(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                    const float* q, float* out);
  void AttendHeads(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                   const HeadRows& rows, const float* q, float* out);
  void AttendChunks(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                    const HeadRows& rows, const float* q, float* out);
  const void* PrepareHead(const Lane& lane, DType cache_type, const float* q, int64_t d);
  void AttendChunk(const HeadQuery& query, int64_t begin, int64_t end, float* chunk) const;
  void MergeChunks(float* chunks, int64_t n_chunks, int64_t d, float* out) const;

  // ---- cpu_ffn.cc ----
  // Runs up to kGemmMinTokens - 1 tokens with down in the file's layout, where nothing can be
  // skipped.
  void FfnStockRows(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                    const FfnState& state);
  // Runs tokens with down per neuron, part by part of the neurons.
  FfnCount FfnNeurons(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                      const FfnState& state);
  struct FfnPart;  // cpu_ffn.h
  FfnPart MakePart(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                   const FfnState& state);
  FfnCount RunPart(const FfnPart& part, int64_t begin, int64_t end) const;
  FfnCount RunSpan(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;
  void RunDensePart(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;
  int64_t RunExactPart(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;
  void RunActive(const FfnPart& part, int64_t token, int64_t n_active, float* up) const;
  void GateRows(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;
  void UpRows(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;

  // ---- cpu_predict.cc ----
  // Computes what is the same for all neurons of a pass's predictor. Collective.
  void PredictInner(const Lane& lane, const FfnOp& op, int64_t n);
  // Writes those of neurons [begin, end) that are predicted to part.rows, ascending; returns how
  // many. scores: scratch, indexed by neuron.
  int64_t PredictRows(const FfnPart& part, int64_t token, int64_t begin, int64_t end,
                      float* scores) const;
  FfnCount RunPredictedPart(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;
  int64_t CountActive(const FfnPart& part, int64_t token, int64_t begin, int64_t end) const;

  // ---- cpu_gemm.cc ----
  int64_t MinGemmTokens() const {
    return kernels_.gemm != nullptr ? kPackedGemmMinTokens : kGemmMinTokens;
  }
  void LinearPanels(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n);
  void MultiplyPanel(PanelGemm& gemm, const LinearOp& op, int64_t panel,
                     const GemmInput& input) const;
  void FfnPanels(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                 const FfnState& state);
  void DownPanels(const Lane& lane, const FfnSlice& slice, int64_t n, const FfnState& state);
  // Makes activations for panels, in the one buffer for them: what was made before is gone.
  // Collective.
  GemmInput MakeGemmInput(const Lane& lane, GemmForm form, const float* x, int64_t n, int64_t d);

  const KernelTable& kernels_;
  std::string name_;
  std::vector<std::unique_ptr<LaneScratch>> lanes_;
  AlignedBuffer gemm_input_;           // max_tokens activations of max_d_in, for panels
  AlignedBuffer partial_;              // (kFfnParts, MaxRowTokens, d_model) f32: the parts' outputs
  std::vector<FfnCount> part_counts_;  // (kFfnParts)
  AlignedBuffer inner_;  // (MaxRowTokens, max_rank) f32: between a predictor's matrices
  int64_t max_row_tokens_ = 0;
  // (kGemmMinTokens - 1, n_heads, chunks of the context, head_dim + kChunkExtra) f32
  AlignedBuffer chunks_;
  int64_t kv_chunk_ = 0;
  std::vector<AlignedBuffer> blocks_;  // what Allocate hands out
  uint64_t block_used_ = 0;            // bytes used of the last block
  uint64_t allocated_bytes_ = 0;
};

}  // namespace thermocline
