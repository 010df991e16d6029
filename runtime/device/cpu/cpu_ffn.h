// The FFN on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "predictor/sign_predictor.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_gemm.h"
#include "runtime/device/cpu/cpu_limits.h"
#include "runtime/device/cpu/cpu_rows.h"

namespace thermocline {

class CpuFfn {
 public:
  // rows, gemm: products of few tokens and of batches; must outlive it.
  CpuFfn(const KernelTable& kernels, const CpuDeviceLimits& limits, CpuRows& rows, CpuGemm& gemm);
  static uint64_t Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits);

  // Is what DeviceOps says of Ffn.
  FfnCount Run(const Lane& lane, const FfnOp& op, const float* x, int64_t n, const FfnState& state);

 private:
  // What the lanes of a pass have in common, and one lane's scratch.
  struct Part {
    const FfnOp& op;
    const FfnState& state;
    int64_t n_tokens;
    const std::byte* gate_x;  // the tokens, prepared for gate and for up
    int64_t gate_x_stride;
    const std::byte* up_x;
    int64_t up_x_stride;
    int32_t* rows;           // scratch of the lane
    float* h;                // scratch of the lane
    const std::byte* inner;  // inner vectors of the lane
    const SignInput* signs;  // signs of the lane
    float* partial;          // (n_tokens, d_model) output of the part
    PassMarker* timer;
  };
  struct LaneScratch {
    AlignedBuffer rows;   // (max_neurons + 16) i32: active neurons of the part at hand
    AlignedBuffer h;      // (max_neurons) f32: h of the active neurons
    AlignedBuffer inner;  // up to MaxRowTokens vectors between a predictor's matrices, prepared
    std::vector<SignInput> signs;  // (MaxRowTokens)
  };
  LaneScratch& scratch(const Lane& lane) { return lanes_[static_cast<size_t>(lane.rank)]; }

  // ---- cpu_ffn.cc ----
  // Runs up to kGemmMinTokens - 1 tokens with down in the file's layout, where nothing can be
  // skipped.
  void StockRows(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                 const FfnState& state);
  // Runs tokens with down per neuron, part by part of the neurons.
  FfnCount Neurons(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                   const FfnState& state);
  Part MakePart(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                const FfnState& state);
  FfnCount RunPart(const Part& part, int64_t begin, int64_t end) const;
  FfnCount RunSpan(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  void RunDensePart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  int64_t RunExactPart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  void RunActive(const Part& part, int64_t token, int64_t n_active, float* up) const;
  void GateRows(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  void UpRows(const Part& part, int64_t token, int64_t begin, int64_t end) const;

  // ---- cpu_predict.cc ----
  // Computes what is the same for all neurons of a pass's predictor. Collective.
  void PredictInner(const Lane& lane, const FfnOp& op, int64_t n);
  // Writes those of neurons [begin, end) that are predicted to part.rows, ascending; returns how
  // many. scores: scratch, indexed by neuron.
  int64_t PredictRows(const Part& part, int64_t token, int64_t begin, int64_t end,
                      float* scores) const;
  FfnCount RunPredictedPart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  int64_t CountActive(const Part& part, int64_t token, int64_t begin, int64_t end) const;

  const KernelTable& kernels_;
  CpuRows& rows_;
  CpuGemm& gemm_;
  std::vector<LaneScratch> lanes_;
  AlignedBuffer partial_;              // (kFfnParts, MaxRowTokens, d_model) f32: the parts' outputs
  std::vector<FfnCount> part_counts_;  // (kFfnParts)
  AlignedBuffer inner_;  // (MaxRowTokens, max_rank) f32: between a predictor's matrices
};

}  // namespace thermocline
