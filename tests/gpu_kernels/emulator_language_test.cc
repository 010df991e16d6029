// CUDA's words for kernels mean in the emulator what the CUDA programming guide says.
#include <gmock/gmock.h>

#include "gpu_kernels/base/shared_memory.h"
#include "tests/gpu_kernels/emulated_run.h"
#include "tests/gpu_kernels/gpu_test.h"

namespace thermocline {
namespace {

using testing::ElementsAre;

constexpr unsigned kAll = 0xffffffffu;

// Runs a kernel that writes one value per lane of one warp.
template <typename... Parameters, typename... Arguments>
std::vector<int> Lanes(const Kernel<int*, Parameters...>& kernel, Arguments... arguments) {
  Stream stream;
  const OnDevice<int> out(stream, std::vector<int>(32, -1));
  EXPECT_EQ(ReportOf(kernel, 1, 32, 0, out.data(), arguments...), "");
  return out.Read();
}

enum class Shuffle { kIdx, kUp, kDown, kXor };

__global__ void shuffle_kernel(int* out, Shuffle kind, int operand, int width) {
  const int lane = static_cast<int>(threadIdx.x);
  switch (kind) {
    case Shuffle::kIdx:
      out[lane] = __shfl_sync(kAll, 100 + lane, operand, width);
      break;
    case Shuffle::kUp:
      out[lane] = __shfl_up_sync(kAll, 100 + lane, operand, width);
      break;
    case Shuffle::kDown:
      out[lane] = __shfl_down_sync(kAll, 100 + lane, operand, width);
      break;
    case Shuffle::kXor:
      out[lane] = __shfl_xor_sync(kAll, 100 + lane, operand, width);
      break;
  }
}

TEST(EmulatedLanguageTest, ShufflesOverAWarp) {
  const std::vector<int> from_3 = Lanes(KERNEL(shuffle_kernel), Shuffle::kIdx, 3, 32);
  const std::vector<int> up = Lanes(KERNEL(shuffle_kernel), Shuffle::kUp, 3, 32);
  const std::vector<int> down = Lanes(KERNEL(shuffle_kernel), Shuffle::kDown, 3, 32);
  const std::vector<int> flipped = Lanes(KERNEL(shuffle_kernel), Shuffle::kXor, 5, 32);
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(from_3[lane], 103);
    EXPECT_EQ(up[lane], 100 + (lane < 3 ? lane : lane - 3));
    EXPECT_EQ(down[lane], 100 + (lane >= 29 ? lane : lane + 3));
    EXPECT_EQ(flipped[lane], 100 + (lane ^ 5));
  }
}

TEST(EmulatedLanguageTest, ShufflesStayInTheirGroups) {
  const std::vector<int> from_9 = Lanes(KERNEL(shuffle_kernel), Shuffle::kIdx, 9, 8);
  const std::vector<int> up = Lanes(KERNEL(shuffle_kernel), Shuffle::kUp, 1, 8);
  const std::vector<int> down = Lanes(KERNEL(shuffle_kernel), Shuffle::kDown, 1, 8);
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(from_9[lane], 100 + lane / 8 * 8 + 1);
    EXPECT_EQ(up[lane], 100 + (lane % 8 == 0 ? lane : lane - 1));
    EXPECT_EQ(down[lane], 100 + (lane % 8 == 7 ? lane : lane + 1));
  }
}

// Two groups of lanes exchange at the same time, each under its own mask and a different number of
// times.
__global__ void two_groups_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const unsigned mask = lane < 8 ? 0xffu : 0xffffff00u;
  int value = lane;
  for (int i = 0; i < (lane < 8 ? 1 : 3); ++i) value = __shfl_xor_sync(mask, value, 1);
  out[lane] = value;
}

TEST(EmulatedLanguageTest, GroupsOfLanesAreIndependent) {
  InEveryOrder([] {
    const std::vector<int> out = Lanes(KERNEL(two_groups_kernel));
    for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], lane ^ 1);
  });
}

__global__ void vote_kernel(int* out) {
  const bool odd = threadIdx.x % 2 == 1;
  const int any = __any_sync(kAll, threadIdx.x == 9);
  const int none = __any_sync(kAll, threadIdx.x == 99);
  const int all = __all_sync(kAll, threadIdx.x < 32);
  const int not_all = __all_sync(kAll, threadIdx.x < 31);
  const unsigned ballot = __ballot_sync(kAll, odd);
  const bool right = any != 0 && none == 0 && all != 0 && not_all == 0 && ballot == 0xaaaaaaaau;
  out[threadIdx.x] = right ? 1 : 0;
}

TEST(EmulatedLanguageTest, Votes) { EXPECT_THAT(Lanes(KERNEL(vote_kernel)), testing::Each(1)); }

__global__ void block_vote_kernel(int* out) {
  const int count = __syncthreads_count(threadIdx.x % 3 == 0);
  const int any = __syncthreads_or(threadIdx.x == 5);
  const int all = __syncthreads_and(threadIdx.x != 5);
  if (threadIdx.x < 32) out[threadIdx.x] = count * 100 + (any != 0 ? 10 : 0) + (all != 0 ? 1 : 0);
}

TEST(EmulatedLanguageTest, VotesOfABlock) {
  Stream stream;
  const OnDevice<int> out(stream, std::vector<int>(32, -1));
  EXPECT_EQ(ReportOf(KERNEL(block_vote_kernel), 1, 96, 0, out.data()), "");
  EXPECT_THAT(out.Read(), testing::Each(3210));
}

__global__ void index_kernel(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      static_cast<int>(blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * threadIdx.x +
                       10000 * threadIdx.y + 100000 * threadIdx.z);
}

TEST(EmulatedLanguageTest, IndicesInThreeDimensions) {
  Stream stream;
  const size_t n = 2 * 3 * 2 * 4 * 4 * 2;
  const OnDevice<int> out(stream, std::vector<int>(n, -1));
  EXPECT_EQ(ReportOf(KERNEL(index_kernel), dim3(2, 3, 2), dim3(4, 4, 2), 0, out.data()), "");
  const std::vector<int> values = out.Read();
  for (size_t i = 0; i < n; ++i) {
    const size_t block = i / 32;
    const size_t thread = i % 32;
    const size_t expected = block % 2 + 10 * (block / 2 % 3) + 100 * (block / 6) +
                            1000 * (thread % 4) + 10000 * (thread / 4 % 4) + 100000 * (thread / 16);
    ASSERT_EQ(values[i], static_cast<int>(expected)) << i;
  }
}

// Each call of a device function with a static array has the same array, as on hardware.
__global__ void atomics_kernel(int* out) {
  atomicAdd(&out[0], 2);
  atomicMax(&out[1], static_cast<int>(threadIdx.x));
  atomicMin(&out[2], -static_cast<int>(threadIdx.x));
  atomicOr(&out[3], 1 << (threadIdx.x % 4));
  atomicAnd(&out[4], ~(1 << (threadIdx.x % 4)));
  if (atomicCAS(&out[5], -1, 17) == -1) atomicExch(&out[6], static_cast<int>(threadIdx.x) + 100);
}

TEST(EmulatedLanguageTest, Atomics) {
  Stream stream;
  const OnDevice<int> out(stream, {0, 0, 0, 0, 255, -1, 0});
  EXPECT_EQ(ReportOf(KERNEL(atomics_kernel), 3, 32, 0, out.data()), "");
  EXPECT_THAT(out.Read(), ElementsAre(192, 31, -31, 15, 240, 17,
                                      testing::AllOf(testing::Ge(100), testing::Le(131))));
}

TEST(EmulatedLanguageTest, ByteArithmetic) {
  EXPECT_EQ(__dp4a(0x01ff7f80, 0x02030405, 7), 7 + 1 * 2 - 1 * 3 + 127 * 4 - 128 * 5);
  EXPECT_EQ(__dp4a(0x01ff7f80u, 0x02030405u, 7u), 7u + 1 * 2 + 255 * 3 + 127 * 4 + 128 * 5);
  EXPECT_EQ(__vsub4(0x00050510u, 0x01060504u), 0xffff000cu);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7410u), 0x77441100u);
  EXPECT_EQ(__byte_perm(0x33228100u, 0u, 0x0009u), 0x000000ffu);
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__clz(1), 31);
}

TEST(EmulatedLanguageTest, HalfArithmetic) {
  const __half2 a = __floats2half2_rn(1.5f, -2.0f);
  const __half2 b = __float2half2_rn(3.0f);
  const float2 sum = __half22float2(__hadd2(a, b));
  const float2 product = __half22float2(__hmul2(a, b));
  const float2 fused = __half22float2(__hfma2(a, b, a));
  EXPECT_EQ(sum.x, 4.5f);
  EXPECT_EQ(sum.y, 1.0f);
  EXPECT_EQ(product.x, 4.5f);
  EXPECT_EQ(product.y, -6.0f);
  EXPECT_EQ(fused.x, 6.0f);
  EXPECT_EQ(fused.y, -8.0f);
  EXPECT_EQ(__half_as_ushort(__float2half(1.0f)), 0x3c00);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16(1.0f)), 0x3f80);
  EXPECT_EQ(__bfloat162float(__ushort_as_bfloat16(0xc000)), -2.0f);
}

}  // namespace
}  // namespace thermocline
