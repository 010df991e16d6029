#include "runtime/core/error.h"
#include "runtime/device/gpu/make_gpu_device.h"

namespace thermocline {

std::unique_ptr<Device> MakeGpuDevice(const std::string& /*name*/, const FastTierNeeds& /*needs*/) {
  CHECK(false);  // this build's QueryGpuSupport() says that there is none
  return nullptr;
}

uint64_t GpuFreeBytes() {
  CHECK(false);
  return 0;
}

uint64_t GpuScratchBytes(const FastTierNeeds& /*needs*/) {
  CHECK(false);
  return 0;
}

uint64_t GpuPinnedBytes(const FastTierNeeds& /*needs*/) {
  CHECK(false);
  return 0;
}

uint64_t GpuExchangeBytes(const RowExchangeLimits& /*limits*/) {
  CHECK(false);
  return 0;
}

uint64_t GpuMatrixBytes(DType /*dtype*/, int64_t /*rows*/, int64_t /*cols*/) {
  CHECK(false);
  return 0;
}

}  // namespace thermocline
