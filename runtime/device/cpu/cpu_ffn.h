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
  // rows, gemm: products of few tokens and of batches; low_rank: what adapters add; channels: what
  // is cut of inputs. They must outlive it.
  CpuFfn(const KernelTable& kernels, const CpuDeviceLimits& limits, CpuRows& rows, CpuGemm& gemm,
         CpuLowRank& low_rank, CpuChannels& channels);
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
    int32_t* rows;  // scratch of the lane
    float* h;       // scratch of the lane: a token's lie h_stride apart
    int64_t h_stride;
    const std::byte* inner;  // inner vectors of the lane
    const SignInput* signs;  // signs of the lane
    float* partial;          // (n_tokens, d_model) output of the part
    double* squares;         // (n_tokens) of h, where it is normalised
    PassMarker* timer;
    int lane_rank;
    float* low_rank = nullptr;  // (n_tokens, total_rank) A h of down; null: no adapters
  };
  struct LaneScratch {
    AlignedBuffer rows;   // (max_neurons + 16) i32: active neurons of the part at hand
    AlignedBuffer h;      // (MaxRowTokens, max_neurons) f32: h of the active neurons
    AlignedBuffer inner;  // up to MaxRowTokens vectors between a predictor's matrices, prepared
    std::vector<SignInput> signs;  // (MaxRowTokens)
    std::vector<float> low_rank;   // (adapter_rank) the parts' sums of a token, together
  };
  LaneScratch& scratch(const Lane& lane) { return lanes_[static_cast<size_t>(lane.rank)]; }

  // ---- cpu_ffn.cc ----
  // Runs up to kFewTokens tokens with down in the file's layout, where nothing can be skipped.
  void StockRows(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                 const FfnState& state);
  static void CountFired(const Lane& lane, const FfnOp& op, int64_t n, const FfnState& state);
  // Runs tokens with down per neuron, part by part of the neurons.
  FfnCount Neurons(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                   const FfnState& state);
  Part MakePart(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                const FfnState& state);
  FfnCount RunPart(const Part& part, int64_t begin, int64_t end) const;
  FfnCount RunSpan(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  void RunDensePart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  // Adds rows of down, from w on, to the token's part of the output.
  void AddDown(const Part& part, int64_t token, const std::byte* w, const float* h,
               const int32_t* rows, int64_t n) const;
  // Leaves out down rows of the neurons whose h is below the threshold; returns how many are read.
  int64_t RunCutPart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  // Computes gates and ups that are stored by column, for all neurons. Collective.
  void ColumnProducts(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                      const FfnState& state);
  int64_t RunExactPart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  void RunActive(const Part& part, int64_t token, int64_t n_active, float* up) const;
  // Takes neurons whose h is 0 off the list of n; returns how many stay.
  static int64_t DropZeros(const Part& part, int64_t n);
  // h *= weights of its norm; counts its squares. h: (n) of neurons rows[i], or first + i.
  static void WeighHidden(const Part& part, int64_t token, const int32_t* rows, int64_t first,
                          int64_t n, float* h);
  // Divides elements [begin, end) of the outputs of n tokens by the root mean square of their h.
  void DivideByNorms(const FfnOp& op, int64_t n, int64_t n_parts, int64_t begin, int64_t end,
                     float* y) const;
  // Cuts the gates of all neurons and tokens, which it computes. Collective.
  void CutGates(const Lane& lane, const Part& part) const;
  // Of n tokens from `token` on.
  void GateProducts(const Part& part, int64_t token, int64_t n, int64_t begin, int64_t end) const;
  // Computes activated gates; of cut ones the products are there.
  void GateRows(const Part& part, int64_t token, int64_t n, int64_t begin, int64_t end) const;
  void UpRows(const Part& part, int64_t token, int64_t n, int64_t begin, int64_t end) const;

  // ---- cpu_ffn_tokens.cc: several tokens, whose weights are read and decoded once ----

  // Whether all tokens of a part can take its neurons together.
  static bool TakesTogether(const Part& part);
  FfnCount RunTokens(const Part& part, int64_t begin, int64_t end) const;
  // Of neurons [begin, end) lists those to part.rows, ascending, for which some token has a value
  // that is not 0. values: (n_tokens, n_neurons), indexed by neuron.
  struct Listed {
    int64_t any = 0;     // neurons in the list
    int64_t tokens = 0;  // values that are not 0, of all tokens
  };
  Listed ListAny(const Part& part, const float* values, int64_t begin, int64_t end) const;
  // Computes up and down rows of part.rows, n of them, for all tokens, whose gates are in part.h.
  // at: where in a token's ups there is room for n.
  void RunActiveTokens(const Part& part, int64_t n, int64_t at) const;
  // Takes neurons off the list of n whose h is 0 for all tokens; returns how many stay.
  static int64_t DropZerosOfAll(const Part& part, int64_t n);
  void CountFiredOf(const Part& part, const float* values, int64_t begin, int64_t end) const;

  // ---- cpu_ffn_low_rank.cc ----
  // Adds what adapters add, where there are any, to gates or ups of some neurons of a token, and
  // what their h adds to the sums of down. As CpuLowRank says it.
  void AddLowRank(const Part& part, CpuLowRank::Target target, int64_t token, const int32_t* rows,
                  int64_t begin, int64_t end, float* out) const;
  void SumLowRank(const Part& part, int64_t token, const float* h, const int32_t* rows,
                  int64_t first, int64_t n) const;
  // Adds the parts' sums for adapters to elements [begin, end) of the outputs of n tokens.
  void AddLowRankDown(const Lane& lane, const FfnOp& op, int64_t n, int64_t n_parts, int64_t begin,
                      int64_t end, float* y);

  // ---- cpu_predict.cc ----
  // Computes what is the same for all neurons of a pass's predictor. Collective.
  void PredictInner(const Lane& lane, const FfnOp& op, int64_t n);
  // Writes those of neurons [begin, end) that are predicted to part.rows, ascending; returns how
  // many. scores: scratch, indexed by neuron.
  int64_t PredictRows(const Part& part, int64_t token, int64_t begin, int64_t end,
                      float* scores) const;
  FfnCount RunPredictedPart(const Part& part, int64_t token, int64_t begin, int64_t end) const;
  // Computes the gates of part.rows, n of them, and up and down of those that fire; returns how
  // many. up: (n) scratch.
  int64_t RunListed(const Part& part, int64_t token, int64_t n, float* up) const;
  // The same as RunPredictedPart for all tokens; spans of the neurons are taken together where that
  // pays.
  FfnCount RunPredictedTokens(const Part& part, int64_t begin, int64_t end) const;
  int64_t RunListedTokens(const Part& part, int64_t n, int64_t at) const;
  // Writes each token's scores of neurons [begin, end), 0 where one is not predicted.
  void PredictTokens(const Part& part, int64_t begin, int64_t end) const;
  int64_t CountActive(const Part& part, int64_t token, int64_t begin, int64_t end) const;

  const KernelTable& kernels_;
  CpuRows& rows_;
  CpuGemm& gemm_;
  CpuLowRank& low_rank_;
  CpuChannels& channels_;
  std::vector<LaneScratch> lanes_;
  AlignedBuffer partial_;              // (kFfnParts, MaxRowTokens, d_model) f32: the parts' outputs
  std::vector<FfnCount> part_counts_;  // (kFfnParts)
  std::vector<double> part_squares_;   // (kFfnParts, MaxRowTokens)
  AlignedBuffer part_low_rank_;        // (kFfnParts, MaxRowTokens, adapter_rank) f32: A h of down
  int64_t adapter_rank_;
  int64_t max_row_tokens_;
  AlignedBuffer inner_;  // (MaxRowTokens, max_rank) f32: between a predictor's matrices
};

}  // namespace thermocline
