// The CPU as a device. Both tiers can be one: the slow tier always is, the fast tier is a second
// one where there is no GPU, so that the split, the hand-over and the merge are the same code
// everywhere.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device.h"
#include "runtime/panel_gemm.h"

namespace thermocline {

// Batches of at least this many tokens are multiplied as panels (GEMM), smaller ones row by row:
// where the panels are oneDNN's, and where a token's inactive neurons are skipped row by row.
inline constexpr int64_t kGemmMinTokens = 4;
// Where the kernels pack panels themselves. Rows are read once per token, panels once per batch,
// and that decides: on two threads, panels of 2, 3, 4 and 8 tokens take 1.04, 0.9, 0.8 and 0.5 of
// the time that the row kernels would take on rows kept in cache (Q8_0 and Q4_0; F16 1.2, 1.05, 1.0
// and 0.7), and the row kernels do not find a whole matrix there (kernel_bench, cases gemm/...).
inline constexpr int64_t kPackedGemmMinTokens = 2;

struct CpuDeviceLimits {
  int n_lanes = 1;          // of the largest group that will run steps
  int64_t max_tokens = 1;   // of a step
  int64_t max_d_in = 0;     // longest input of a matrix (d_model, d_ff, n_heads * head_dim)
  int64_t max_neurons = 0;  // of an FFN slice
  int64_t max_seq_len = 0;

  uint64_t ScratchBytes(const KernelTable& kernels) const;
};

// What a model's steps need at most.
CpuDeviceLimits MakeCpuDeviceLimits(const ModelConfig& config, int64_t max_tokens,
                                    int64_t max_seq_len, int n_lanes);

class CpuDevice final : public Device {
 public:
  CpuDevice(std::string name, const CpuDeviceLimits& limits);

  const std::string& name() const override { return name_; }
  void* Allocate(uint64_t n_bytes, const std::string& purpose) override;
  void Upload(void* destination, const void* source, uint64_t n_bytes) override;
  uint64_t allocated_bytes() const override { return allocated_bytes_; }

  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override;
  void RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
               int64_t d, float* out) override;
  void Linear(const Lane& lane, std::span<const LinearStep> steps, const float* x,
              int64_t n) override;
  void RopeAppend(const Lane& lane, const RopeStep& rope, const KvCache& cache,
                  const AttentionStep& step, float* q, float* k, const float* v) override;
  void Attend(const Lane& lane, const KvCache& cache, const AttentionStep& step, const float* q,
              float* out) override;
  int64_t Ffn(const Lane& lane, const FfnStep& step, const float* x, int64_t n,
              const FfnState& state) override;
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override;
  void AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight, float eps,
                  int64_t n, int64_t d, float* out) override;

 private:
  struct LaneScratch {
    AlignedBuffer prepared;  // up to kGemmMinTokens - 1 activation vectors
    AlignedBuffer scores;    // (max_seq_len) f32
    AlignedBuffer indices;   // (max_neurons + 16) i32: active neurons this lane found
    std::unique_ptr<PanelGemm> gemm;
    alignas(64) int64_t n_active = 0;
  };

  // ---- cpu_device.cc ----
  LaneScratch& scratch(const Lane& lane) { return *lanes_[static_cast<size_t>(lane.rank)]; }
  const std::byte* Prepare(const Lane& lane, VectorForm form, const float* x, int64_t d);
  void LinearRows(const Lane& lane, std::span<const LinearStep> steps, const float* x, int64_t n);

  // ---- cpu_ffn.cc ----
  void FfnDenseToken(const Lane& lane, const FfnStep& step, const float* x, const FfnState& state);
  int64_t FfnExactToken(const Lane& lane, const FfnStep& step, const float* x,
                        const FfnState& state);
  void GateRows(const Lane& lane, const FfnStep& step, const float* x, int64_t begin, int64_t end,
                float* gate);
  // Up projection, h and the compacted list for entries [begin, end) of the token's active list.
  void UpActive(const Lane& lane, const FfnSlice& slice, const float* x, int64_t begin, int64_t end,
                const FfnState& state);

  // ---- cpu_gemm.cc ----
  int64_t MinGemmTokens() const {
    return kernels_.gemm != nullptr ? kPackedGemmMinTokens : kGemmMinTokens;
  }
  void LinearPanels(const Lane& lane, std::span<const LinearStep> steps, const float* x, int64_t n);
  void FfnPanels(const Lane& lane, const FfnStep& step, const float* x, int64_t n,
                 const FfnState& state);
  void DownPanels(const Lane& lane, const FfnSlice& slice, int64_t n, const FfnState& state);
  // Activations for panels, in the one buffer for them: what was made before is gone. Collective.
  GemmInput MakeGemmInput(const Lane& lane, GemmForm form, const float* x, int64_t n, int64_t d);

  const KernelTable& kernels_;
  std::string name_;
  std::vector<std::unique_ptr<LaneScratch>> lanes_;
  AlignedBuffer gemm_input_;  // max_tokens activations of max_d_in, for panels
  std::vector<AlignedBuffer> buffers_;
  uint64_t allocated_bytes_ = 0;
};

}  // namespace thermocline
