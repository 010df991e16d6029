// The hand-over between the GPU and CPU threads (gpu_kernels/tokens/handover.h): nobody waits for
// the GPU but for its flags.
#pragma once

#include "gpu_kernels/tokens/handover.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/handover.h"

namespace thermocline {

class GpuTierHandover final : public Handover {
 public:
  GpuTierHandover(GpuDevice& gpu, int64_t max_tokens, int64_t d_model, bool predictor_apart);

  const float* x() const override { return handover_.x(); }
  const float* predictor_x() const override;
  float* y() const override { return handover_.y(); }
  void BeginPass() override;
  void SendInput(const float* x, const float* predictor_x, int64_t n_tokens) override;
  void Merge(const Lane& lane, DeviceOps& fast, int64_t layer, uint32_t index, float* x,
             const float* y_hot, int64_t n_tokens) override;
  // Throws Error where nothing comes for a long time.
  void AwaitInput(const Lane& lane, uint32_t index) override;
  void SendOutput(uint32_t index) override { handover_.Answer(base_ + index + 1); }
  void Check() const override { handover_.ThrowIfLost(); }
  void Abandon() override;

 private:
  GpuDevice& gpu_;
  int64_t d_model_;
  bool predictor_apart_;
  GpuHandover handover_;
  DeviceMemory both_;  // (2, max_tokens, d_model) f32: x and what the predictor reads
  uint32_t base_ = 0;  // hand-overs before this pass
};

}  // namespace thermocline
