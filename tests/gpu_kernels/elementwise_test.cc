#include "gpu_kernels/tokens/elementwise.h"

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuAddTest = GpuTest;

TEST_F(GpuAddTest, AddsWhateverTheSize) {
  // One more than the largest grid covers at once is among them.
  for (const size_t n : {1, 31, 32, 33, 255, 256, 257, 5003, 262145}) {
    InEveryOrder([n] {
      Stream stream;
      const std::vector<float> x = RandomValues(n, 1);
      const std::vector<float> y = RandomValues(n, 2);
      const OnDevice<float> x_device(stream, x);
      const OnDevice<float> y_device(stream, y);
      GpuAdd(stream, y_device.data(), x_device.data(), static_cast<int64_t>(n));
      const std::vector<float> sum = y_device.Read();
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(sum[i], y[i] + x[i]) << "i " << i << " of " << n;
    });
  }
}

TEST_F(GpuAddTest, NothingToAddIsNoLaunch) {
  Stream stream;
  GpuAdd(stream, nullptr, nullptr, 0);
  stream.Synchronize();
}

}  // namespace
}  // namespace thermocline
