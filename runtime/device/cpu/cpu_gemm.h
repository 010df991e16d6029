// Batches of tokens on the CPU: matrix products by panels of weights (panel_gemm.h), which the
// lanes share out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_channels.h"
#include "runtime/device/cpu/cpu_limits.h"
#include "runtime/device/cpu/cpu_low_rank.h"
#include "runtime/device/cpu/panel_gemm.h"

namespace thermocline {

// gates[i] = act(gates[i]), with the threshold of the op.
void ActivateGates(const KernelTable& kernels, const FfnOp& op, float* gates, int64_t n);
// Makes activated gates of neurons [first, first + n) of a row of the pass 0 where they are below
// the op's threshold for gates, if it has one; counts those that are left. gates: of the first.
void CutActivated(const KernelTable& kernels, const FfnOp& op, int64_t row, int64_t first,
                  int64_t n, float* gates);

class CpuGemm {
 public:
  // low_rank: what adapters add to FFNs; channels: what is cut of inputs. They must outlive it.
  CpuGemm(const KernelTable& kernels, const CpuDeviceLimits& limits, CpuLowRank& low_rank,
          CpuChannels& channels);
  static uint64_t Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits);

  // out_i = x W_i^T + bias_i. Collective, but for the meeting at the end.
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n);
  // The same of one matrix by column.
  void LinearByColumn(const Lane& lane, const LinearOp& op, const float* x, int64_t n);
  // Is what DeviceOps says of Ffn, dense. Collective. REQUIRES: low_rank is prepared, where there
  // are adapters.
  void Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n, const FfnState& state);
  // Cuts the gates of n tokens as the op says (see FfnConfig). Collective.
  // REQUIRES: all gates are there, with their biases.
  void CutGates(const Lane& lane, const FfnOp& op, int64_t n, const FfnState& state) const;
  // Normalises the hidden vectors of n tokens where the slice wants it. Collective.
  void NormHidden(const Lane& lane, const FfnOp& op, int64_t n, const FfnState& state) const;

 private:
  PanelGemm& gemm(const Lane& lane) { return *lanes_[static_cast<size_t>(lane.rank)]; }
  void MultiplyPanel(PanelGemm& gemm, const LinearOp& op, int64_t panel,
                     const GemmInput& input) const;
  // Adds bias and adapters to gates of neurons [first, last), for all tokens.
  void AddToGates(const Lane& lane, const FfnOp& op, int64_t n, int64_t first, int64_t last,
                  const FfnState& state) const;
  void Activate(const Lane& lane, const FfnOp& op, int64_t n, int64_t first, int64_t last,
                const FfnState& state) const;
  // What Ffn does up to the activations, where gate and up are by column or their inputs are cut.
  void GatesOfChannels(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                       const FfnState& state);
  void DownPanels(const Lane& lane, const FfnSlice& slice, int64_t n, const FfnState& state);
  // Makes activations for panels, in the one buffer for them: what was made before is gone.
  // Collective.
  GemmInput MakeInput(const Lane& lane, GemmForm form, const float* x, int64_t n, int64_t d);

  const KernelTable& kernels_;
  CpuLowRank& low_rank_;
  CpuChannels& channels_;
  std::vector<std::unique_ptr<PanelGemm>> lanes_;
  AlignedBuffer input_;  // max_tokens activations of max_d_in
};

}  // namespace thermocline
