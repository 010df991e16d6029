// Kernels that are broken on purpose, each in one way: the emulator must say what is wrong, in
// every order in which it runs threads.
#include <gmock/gmock.h>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/shared_memory.h"
#include "gpu_kernels/emulation/sanitizers.h"
#include "tests/gpu_kernels/emulated_run.h"
#include "tests/gpu_kernels/gpu_test.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr unsigned kThreads = 64;
constexpr unsigned kAll = 0xffffffffu;

// Reverses a block's values; without the barrier a thread reads what another may not have written.
template <bool kBarrier>
__global__ void reverse_kernel(float* values) {
  SHARED_ARRAY(float, kept, kThreads);
  kept[threadIdx.x] = values[threadIdx.x];
  if (kBarrier) __syncthreads();
  values[threadIdx.x] = kept[kThreads - 1 - threadIdx.x];
}

// Uses the same array twice; the second round overwrites what others still read.
template <bool kBarrier>
__global__ void reuse_kernel(float* values) {
  SHARED_ARRAY(float, kept, kThreads);
  for (int round = 0; round < 2; ++round) {
    kept[threadIdx.x] = values[threadIdx.x];
    __syncthreads();
    values[threadIdx.x] = kept[(threadIdx.x + 1) % kThreads];
    if (kBarrier) __syncthreads();
  }
}

// Lanes exchange through memory; only __syncwarp() orders that.
template <bool kSync>
__global__ void neighbour_kernel(float* values) {
  SHARED_ARRAY(float, kept, kThreads);
  kept[threadIdx.x] = values[threadIdx.x];
  if (kSync) {
    __syncwarp();
  } else {
    __shfl_sync(kAll, 0, 0);
  }
  values[threadIdx.x] = kept[threadIdx.x ^ 1];
}

// __syncwarp() orders one warp, not two.
__global__ void other_warp_kernel(float* values) {
  SHARED_ARRAY(float, kept, kThreads);
  kept[threadIdx.x] = values[threadIdx.x];
  __syncwarp();
  values[threadIdx.x] = kept[threadIdx.x ^ 32];
}

template <bool kAtomic>
__global__ void count_kernel(int* total) {
  SHARED_ARRAY(int, count, 1);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  if (kAtomic) {
    atomicAdd(&count[0], 1);
  } else {
    count[0] += 1;
  }
  __syncthreads();
  if (threadIdx.x == 0) *total = count[0];
}

__global__ void half_written_kernel(float* values) {
  SHARED_ARRAY(float, kept, kThreads);
  if (threadIdx.x < kThreads / 2) kept[threadIdx.x] = 1;
  __syncthreads();
  values[threadIdx.x] = kept[threadIdx.x];
}

__global__ void outside_array_kernel(float* values) {
  SHARED_ARRAY(float, kept, kThreads);
  kept[threadIdx.x + 1] = values[threadIdx.x];
}

class BrokenKernelTest : public testing::Test {
 protected:
  // The kernel's report in every order of threads; they must agree on whether it is broken.
  template <typename... Parameters>
  std::vector<std::string> Reports(const Kernel<Parameters...>& kernel) {
    std::vector<std::string> reports;
    InEveryOrder([&] {
      Stream stream;
      const OnDevice<float> values(stream, std::vector<float>(kThreads, 1.0f));
      reports.push_back(ReportOf(kernel, 1, kThreads, 0, values.data()));
    });
    return reports;
  }
};

TEST_F(BrokenKernelTest, MissingBarrierIsARace) {
  EXPECT_THAT(Reports(KERNEL(reverse_kernel<true>)), testing::Each(""));
  EXPECT_THAT(Reports(KERNEL(reverse_kernel<false>)),
              testing::Each(AllOf(HasSubstr("reverse_kernel<false>"), HasSubstr("kept["))));
}

TEST_F(BrokenKernelTest, ReuseWithoutBarrierIsARace) {
  EXPECT_THAT(Reports(KERNEL(reuse_kernel<true>)), testing::Each(""));
  EXPECT_THAT(Reports(KERNEL(reuse_kernel<false>)),
              testing::Each(HasSubstr("with no barrier between")));
}

TEST_F(BrokenKernelTest, ShuffleOrdersNoMemory) {
  EXPECT_THAT(Reports(KERNEL(neighbour_kernel<true>)), testing::Each(""));
  EXPECT_THAT(Reports(KERNEL(neighbour_kernel<false>)),
              testing::Each(HasSubstr("with no barrier between")));
}

TEST_F(BrokenKernelTest, SyncwarpOrdersOneWarpOnly) {
  EXPECT_THAT(Reports(KERNEL(other_warp_kernel)),
              testing::Each(testing::AnyOf(HasSubstr("with no barrier between"),
                                           HasSubstr("which no thread has written"))));
}

TEST_F(BrokenKernelTest, CountingWithoutAtomicsIsARace) {
  Stream stream;
  const OnDevice<int> total(stream, {-1});
  EXPECT_EQ(ReportOf(KERNEL(count_kernel<true>), 1, kThreads, 0, total.data()), "");
  EXPECT_EQ(total.Read()[0], static_cast<int>(kThreads));
  EXPECT_THAT(ReportOf(KERNEL(count_kernel<false>), 1, kThreads, 0, total.data()),
              HasSubstr("with no barrier between"));
}

TEST_F(BrokenKernelTest, ReadOfWhatNobodyWrote) {
  EXPECT_THAT(Reports(KERNEL(half_written_kernel)),
              testing::Each(HasSubstr("in shared memory, which no thread has written")));
}

TEST_F(BrokenKernelTest, OutsideOfAnArray) {
  EXPECT_THAT(Reports(KERNEL(outside_array_kernel)), testing::Each(HasSubstr("kept[64]")));
}

// Barriers and exchanges.

__global__ void early_return_kernel(float* values) {
  if (threadIdx.x >= kThreads - 1) return;
  __syncthreads();
  values[threadIdx.x] = 0;
}

__global__ void two_barriers_kernel(float* values) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
    values[threadIdx.x] = 0;
  }
}

// Half of a warp waits at a barrier, the other half for all of the warp.
__global__ void stuck_kernel(float* values) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  values[threadIdx.x] = 0;
}

__global__ void own_lane_missing_kernel(float* values) {
  values[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, values[threadIdx.x], 1);
}

__global__ void reads_outside_mask_kernel(float* values) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  values[threadIdx.x] = __shfl_xor_sync(mask, values[threadIdx.x], 16);
}

// Only the lanes of the upper half call it, but all are named.
__global__ void absent_lanes_kernel(float* values) {
  if (threadIdx.x % 32 >= 16) {
    values[threadIdx.x] = __shfl_down_sync(kAll, values[threadIdx.x], 1);
  }
}

__global__ void different_masks_kernel(float* values) {
  const unsigned mask = threadIdx.x % 32 == 3 ? 0x000000ffu : kAll;
  values[threadIdx.x] = __shfl_xor_sync(mask, values[threadIdx.x], 1);
}

TEST_F(BrokenKernelTest, ReturnBeforeABarrier) {
  EXPECT_THAT(Reports(KERNEL(early_return_kernel)),
              testing::Each(AllOf(HasSubstr("__syncthreads (emulator_broken_test.cc:"),
                                  HasSubstr("returned"))));
}

TEST_F(BrokenKernelTest, TwoBarriersAtOnce) {
  EXPECT_THAT(Reports(KERNEL(two_barriers_kernel)), testing::Each(HasSubstr("while others wait")));
}

TEST_F(BrokenKernelTest, BarrierAgainstExchange) {
  EXPECT_THAT(Reports(KERNEL(stuck_kernel)),
              testing::Each(AllOf(HasSubstr("all threads wait"), HasSubstr("__syncthreads"),
                                  HasSubstr("__syncwarp"))));
}

TEST_F(BrokenKernelTest, WrongMasks) {
  EXPECT_THAT(Reports(KERNEL(own_lane_missing_kernel)), testing::Each(HasSubstr("its own lane")));
  EXPECT_THAT(Reports(KERNEL(reads_outside_mask_kernel)),
              testing::Each(HasSubstr("takes no part")));
  EXPECT_THAT(Reports(KERNEL(absent_lanes_kernel)), testing::Each(HasSubstr("returned")));
  EXPECT_THAT(Reports(KERNEL(different_masks_kernel)), testing::Each(HasSubstr("while lane")));
}

TEST_F(BrokenKernelTest, WarpThatIsNotWhole) {
  Stream stream;
  const OnDevice<float> values(stream, std::vector<float>(40, 1.0f));
  EXPECT_THAT(ReportOf(KERNEL(different_masks_kernel), 1, 40, 0, values.data()),
              testing::AnyOf(HasSubstr("has only the lanes 0x000000ff"), HasSubstr("while lane")));
}

// Memory.

// One block per row; with one row too many the last one lies behind the array.
__global__ void zero_rows_kernel(float* rows, int width) {
  rows[blockIdx.x * width + threadIdx.x] = 0;
}

__global__ void write_before_kernel(float* values) { values[-1] = 0; }

TEST_F(BrokenKernelTest, RowBehindTheEnd) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto run = [](unsigned n_rows) {
    Stream stream;
    const OnDevice<float> rows(stream, std::vector<float>(5 * 32, 1.0f));
    return ReportOf(KERNEL(zero_rows_kernel), n_rows, 32, 0, rows.data(), 32);
  };
  EXPECT_EQ(run(5), "");
  if (emulation::kAddressSanitizer) {
    EXPECT_DEATH(run(6), "use-after-poison");
  } else {
    EXPECT_THAT(run(6), HasSubstr("zero_rows_kernel: memory behind an allocation of 640 bytes"));
  }
}

TEST_F(BrokenKernelTest, ElementInFrontOfTheStart) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto run = [] {
    Stream stream;
    const OnDevice<float> values(stream, {1.0f});
    return ReportOf(KERNEL(write_before_kernel), 1, 32, 0, values.data());
  };
  if (emulation::kAddressSanitizer) {
    EXPECT_DEATH(run(), "use-after-poison");
  } else {
    EXPECT_THAT(run(), HasSubstr("memory in front of an allocation"));
  }
}

TEST_F(BrokenKernelTest, PointerToOrdinaryMemory) {
  std::vector<float> values(kThreads);
  EXPECT_THAT(ReportOf(KERNEL(reverse_kernel<true>), 1, kThreads, 0, values.data()),
              HasSubstr("memory that the device does not see"));
}

__global__ void two_dynamic_arrays_kernel(int second_offset) {
  DYNAMIC_SHARED(float, first, 0, 32);
  DYNAMIC_SHARED(int, second, second_offset, 32);
  first[threadIdx.x] = 1;
  second[threadIdx.x] = 2;
}

TEST_F(BrokenKernelTest, DynamicSharedMemory) {
  const auto kernel = KERNEL(two_dynamic_arrays_kernel);
  EXPECT_EQ(ReportOf(kernel, 2, 32, 256, 128), "");
  EXPECT_THAT(ReportOf(kernel, 2, 32, 256, 124), HasSubstr("places second over first"));
  EXPECT_THAT(ReportOf(kernel, 2, 32, 252, 128), HasSubstr("the launch has 252 bytes"));
  EXPECT_THAT(ReportOf(kernel, 2, 32, 300, 130), HasSubstr("a multiple of its size"));
}

TEST_F(BrokenKernelTest, LaunchesThatNoDeviceTakes) {
  const auto kernel = KERNEL(two_dynamic_arrays_kernel);
  EXPECT_THAT(ReportOf(kernel, 1, 1025, 256, 128),
              AllOf(HasSubstr("launching two_dynamic_arrays_kernel"),
                    HasSubstr("invalid launch configuration")));
  EXPECT_THAT(ReportOf(kernel, 1, 0, 256, 128), HasSubstr("invalid launch configuration"));
  EXPECT_THAT(ReportOf(kernel, 1, 32, (64 << 10) + 1, 128),
              HasSubstr("invalid launch configuration"));
}

// Weights in a form of the GPU's, say, read as if they lay in a file.
TEST(EmulatorDeathTest, AHostThatFollowsADevicePointer) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const emulation::Settings before = emulation::CurrentSettings();
  for (const bool keys : {true, false}) {
    emulation::Settings settings = before;
    settings.protection_keys = keys;
    emulation::ChangeSettings(settings);
    const DeviceMemory memory(64, "a test");
    EXPECT_DEATH({ *memory.as<volatile char>() = 1; }, "") << "with keys: " << keys;
  }
  emulation::ChangeSettings(before);
}

}  // namespace
}  // namespace thermocline
