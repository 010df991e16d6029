#include "runtime/fast_device.h"
#include "runtime/gpu_device.h"

namespace thermocline {
namespace {

GpuDeviceLimits LimitsOf(const FastTierNeeds& needs) {
  return {needs.max_tokens, needs.max_seq_len, needs.max_neurons, needs.predictor != nullptr,
          needs.predictor == nullptr ? 0 : needs.predictor->max_rank()};
}

}  // namespace

std::unique_ptr<Device> MakeGpuDevice(const std::string& name, const FastTierNeeds& needs) {
  return std::make_unique<GpuDevice>(name, *needs.config, LimitsOf(needs));
}

uint64_t GpuScratchBytes(const FastTierNeeds& needs) {
  return GpuDevice::ScratchBytes(*needs.config, LimitsOf(needs));
}

}  // namespace thermocline
