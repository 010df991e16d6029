#include <chrono>
#include <limits>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/pass_stamps.h"
#include "gpu_kernels/base/system_flag.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kClockTries = 8;

__global__ void __launch_bounds__(kWarpThreads) stamp_kernel(uint64_t* slot) {
  if (threadIdx.x == 0) *slot = ClockNs();
}

uint64_t SlotsBytes(int64_t n_slots) {
  CHECK(n_slots > 0);
  return static_cast<uint64_t>(n_slots) * sizeof(uint64_t);
}

int64_t HostNs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace

GpuStamps::GpuStamps(int64_t n_slots)
    : n_slots_(n_slots),
      slots_(SlotsBytes(n_slots), "times of steps"),
      host_(SlotsBytes(n_slots), "times of steps") {}

void GpuStamps::Stamp(Stream& stream, int64_t slot) {
  CHECK(slot >= 0 && slot < n_slots_);
  Launch(KERNEL(stamp_kernel), {.grid = 1, .block = kWarpThreads, .stream = stream},
         slots_.as<uint64_t>() + slot);
}

void GpuStamps::Collect(Stream& stream, int64_t n) {
  CHECK(n >= 0 && n <= n_slots_);
  stream.Copy(host_.device<uint64_t>(), slots_.as<uint64_t>(),
              static_cast<uint64_t>(n) * sizeof(uint64_t));
}

int64_t GpuStamps::ns(int64_t slot) const {
  CHECK(slot >= 0 && slot < n_slots_);
  return static_cast<int64_t>(host_.host<uint64_t>()[slot]);
}

int64_t MeasureClockOffsetNs(Stream& stream, GpuStamps& stamps) {
  stream.Synchronize();
  int64_t quickest_ns = std::numeric_limits<int64_t>::max();
  int64_t offset_ns = 0;
  for (int i = 0; i < kClockTries; ++i) {
    const int64_t before_ns = HostNs();
    stamps.Stamp(stream, 0);
    stream.Synchronize();
    const int64_t after_ns = HostNs();
    stamps.Collect(stream, 1);
    stream.Synchronize();
    if (after_ns - before_ns >= quickest_ns) continue;
    quickest_ns = after_ns - before_ns;
    offset_ns = before_ns + quickest_ns / 2 - stamps.ns(0);
  }
  return offset_ns;
}

}  // namespace thermocline
