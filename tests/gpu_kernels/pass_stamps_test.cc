#include "gpu_kernels/base/pass_stamps.h"

#include <chrono>
#include <limits>

#include "gpu_kernels/tokens/elementwise.h"
#include "tests/gpu_kernels/gpu_test.h"

namespace thermocline {
namespace {

using GpuStampsTest = GpuTest;

TEST_F(GpuStampsTest, TimeGoesOnFromStampToStampAndFromReplayToReplay) {
  Stream stream;
  constexpr int64_t kSlots = 5;
  GpuStamps stamps(kSlots);
  const OnDevice<float> x(stream, std::vector<float>(300, 1.0F));
  stream.Synchronize();
  GraphCapture capture(stream);
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    stamps.Stamp(stream, slot);
    GpuAdd(stream, x.data(), x.data(), 300);
  }
  stamps.Collect(stream, kSlots);
  Graph graph = capture.Finish();
  int64_t last_ns = std::numeric_limits<int64_t>::min();
  for (int replay = 0; replay < 3; ++replay) {
    graph.Launch(stream);
    stream.Synchronize();
    for (int64_t slot = 0; slot < kSlots; ++slot) {
      EXPECT_GE(stamps.ns(slot), last_ns) << "slot " << slot << " of replay " << replay;
      last_ns = stamps.ns(slot);
    }
  }
}

// What is between two host times must be between them by the GPU's clock, too, but for what the
// offset may be off by: half of a stamp's way there and back.
TEST_F(GpuStampsTest, TheOffsetLeadsToTheHostsClock) {
  const auto now_ns = [] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  };
  Stream stream;
  GpuStamps stamps(2);
  const int64_t first_ns = now_ns();
  const int64_t offset_ns = MeasureClockOffsetNs(stream, stamps);
  const int64_t measured_ns = now_ns() - first_ns;
  const int64_t before_ns = now_ns();
  stamps.Stamp(stream, 1);
  stamps.Collect(stream, 2);
  stream.Synchronize();
  const int64_t after_ns = now_ns();
  EXPECT_GE(stamps.ns(1) + offset_ns, before_ns - measured_ns);
  EXPECT_LE(stamps.ns(1) + offset_ns, after_ns + measured_ns);
}

}  // namespace
}  // namespace thermocline
