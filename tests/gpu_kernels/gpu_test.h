// What tests of kernels share. The same tests run emulated, where each is repeated with the threads
// of a block in ascending, descending and shuffled order, and on hardware, where they are skipped
// when there is none.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/gpu_support.h"
#include "gpu_kernels/base/stream.h"
#include "tests/support/short_tests.h"

#ifdef THERMOCLINE_GPU_EMULATED
#include "gpu_kernels/emulation/control.h"
#endif

namespace thermocline {

// What outputs are filled with before a kernel writes them.
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    const GpuSupport support = QueryGpuSupport();
    if (!support.available) GTEST_SKIP() << "no GPU: " << support.reason;
  }
};

// Calls test() once per order of threads; on hardware once.
template <typename Test>
void InEveryOrder(Test test) {
#ifdef THERMOCLINE_GPU_EMULATED
  const emulation::Settings before = emulation::CurrentSettings();
  for (const auto order : {emulation::ThreadOrder::kAscending, emulation::ThreadOrder::kDescending,
                           emulation::ThreadOrder::kShuffled}) {
    // Sanitizers look at memory, which the order does not change.
    if (ShortTests() && order != emulation::ThreadOrder::kShuffled) continue;
    emulation::Settings settings = before;
    settings.order = order;
    settings.seed = 7;
    emulation::ChangeSettings(settings);
    test();
  }
  emulation::ChangeSettings(before);
#else
  test();
#endif
}

// Calls test() in every order, or once: of many shapes, a few suffice for the orders.
template <typename Test>
void InEveryOrderIf(bool every_order, Test test) {
  if (every_order) {
    InEveryOrder(test);
  } else {
    test();
  }
}

// A vector's copy on the GPU.
template <typename T>
class OnDevice {
 public:
  OnDevice(Stream& stream, const std::vector<T>& values)
      : stream_(stream), n_(values.size()), memory_(n_ * sizeof(T), "a test") {
    stream.Copy(memory_.as<T>(), values.data(), n_ * sizeof(T));
  }
  T* data() const { return memory_.as<T>(); }
  // Behind all work on the stream.
  std::vector<T> Read() const {
    std::vector<T> values(n_);
    stream_.Copy(values.data(), memory_.as<T>(), n_ * sizeof(T));
    stream_.Synchronize();
    return values;
  }

 private:
  Stream& stream_;
  size_t n_;
  DeviceMemory memory_;
};

}  // namespace thermocline
