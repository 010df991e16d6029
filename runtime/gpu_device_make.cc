#include "runtime/core/error.h"
#include "runtime/fast_device.h"
#include "runtime/gpu_device.h"

namespace thermocline {
namespace {

GpuDeviceLimits LimitsOf(const FastTierNeeds& needs) {
  return {needs.max_tokens, needs.max_seq_len, needs.max_neurons,
          needs.predictor == nullptr ? 0 : needs.predictor->max_rank()};
}

}  // namespace

std::unique_ptr<Device> MakeGpuDevice(const std::string& name, const FastTierNeeds& needs) {
  if (needs.predictor != nullptr && needs.predictor->max_rank() == 0) {
    throw Error({.what = "sign bits predict neurons of the host only",
                 .expected = "a placement that leaves neurons there, or a predictor of matrices",
                 .found = "every neuron on the GPU",
                 .hint = "use --placement, a svd or mlp predictor, or --fast-tier cpu"});
  }
  return std::make_unique<GpuDevice>(name, *needs.config, LimitsOf(needs));
}

uint64_t GpuScratchBytes(const FastTierNeeds& needs) {
  return GpuDevice::ScratchBytes(*needs.config, LimitsOf(needs));
}

}  // namespace thermocline
