// The emulated runtime: streams, hand-overs with host threads, graphs, errors.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "gpu_kernels/base/system_flag.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "tests/gpu_kernels/emulated_run.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

__global__ void publish_kernel(float* to, const float* from, int n, uint32_t* flag,
                               const uint32_t* step) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) to[i] = from[i];
  __syncthreads();
  if (threadIdx.x == 0) StoreReleaseSystem(flag, *step);
}

// y += partial, once the host has set the flag.
__global__ void merge_kernel(float* y, const float* partial, int n, const uint32_t* flag,
                             const uint32_t* step) {
  if (threadIdx.x == 0) WaitForFlag(flag, *step);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) y[i] += partial[i];
}

// A token's worth of the executor's work: the GPU publishes x, a host thread answers with 2 x, the
// GPU merges.
struct HandOver {
  static constexpr int kN = 70;
  HandOver()
      : x(stream, std::vector<float>(kN, 1.0f)),
        out(kN * sizeof(float), "x"),
        back(kN * sizeof(float), "partial y"),
        flags(3 * sizeof(uint32_t), "flags") {
    std::fill_n(flags.host<uint32_t>(), 3, 0u);
  }
  uint32_t* published() const { return flags.host<uint32_t>(); }
  uint32_t* answered() const { return flags.host<uint32_t>() + 1; }
  uint32_t* step() const { return flags.host<uint32_t>() + 2; }

  void Enqueue() {
    Launch(KERNEL(publish_kernel), {.grid = 1, .block = 32, .stream = stream}, out.device<float>(),
           x.data(), kN, published(), step());
    Launch(KERNEL(merge_kernel), {.grid = 1, .block = 32, .stream = stream}, x.data(),
           back.device<float>(), kN, answered(), step());
  }
  void Answer(uint32_t number) {
    while (std::atomic_ref(*published()).load(std::memory_order_acquire) != number) {
      std::this_thread::yield();
    }
    for (int i = 0; i < kN; ++i) back.host<float>()[i] = 2 * out.host<float>()[i];
    std::atomic_ref(*answered()).store(number, std::memory_order_release);
  }

  Stream stream;
  OnDevice<float> x;
  MappedMemory out, back, flags;
};

TEST(EmulatedRuntimeTest, KernelAndHostThreadHandOver) {
  HandOver hand_over;
  std::thread host([&] { hand_over.Answer(1); });
  *hand_over.step() = 1;
  hand_over.Enqueue();
  host.join();
  EXPECT_THAT(hand_over.x.Read(), Each(3.0f));
}

TEST(EmulatedRuntimeTest, GraphRepeatsTheHandOver) {
  HandOver hand_over;
  GraphCapture capture(hand_over.stream);
  hand_over.Enqueue();
  Graph graph = capture.Finish();
  EXPECT_EQ(graph.n_nodes(), 2u);
  EXPECT_EQ(*hand_over.published(), 0u) << "recording ran the kernel";
  constexpr uint32_t kSteps = 5;
  std::thread host([&] {
    for (uint32_t number = 1; number <= kSteps; ++number) hand_over.Answer(number);
  });
  for (uint32_t number = 1; number <= kSteps; ++number) {
    *hand_over.step() = number;
    graph.Launch(hand_over.stream);
    hand_over.stream.Synchronize();
  }
  host.join();
  EXPECT_THAT(hand_over.x.Read(), Each(243.0f));
}

TEST(EmulatedRuntimeTest, LostHandOverIsAnError) {
  const SettingsGuard guard;
  emulation::Settings settings = emulation::CurrentSettings();
  settings.watchdog_ms = 30;
  emulation::ChangeSettings(settings);
  HandOver hand_over;
  *hand_over.step() = 1;
  hand_over.Enqueue();  // and nobody answers
  EXPECT_THAT(MessageOf([&] { hand_over.stream.Synchronize(); }),
              AllOf(HasSubstr("merge_kernel"), HasSubstr("was not handed over"),
                    HasSubstr("system_flag.h:")));
  emulation::TakeReport();
}

__global__ void write_kernel(int* at, int value) {
  if (threadIdx.x == 0) *at = value;
}
__global__ void broken_kernel() {
  if (threadIdx.x == 1) __syncthreads();
}

void Write(Stream& stream, int* at, int value) {
  Launch(KERNEL(write_kernel), {.grid = 1, .block = 32, .stream = stream}, at, value);
}

// CTest runs this a second time with THERMOCLINE_SYNC_LAUNCHES=1.
TEST(EmulatedRuntimeTest, SyncLaunchesReportAtTheLaunch) {
  const bool sync = std::getenv("THERMOCLINE_SYNC_LAUNCHES") != nullptr;
  Stream stream;
  const std::string at_launch =
      MessageOf([&] { Launch(KERNEL(broken_kernel), {.grid = 1, .block = 32, .stream = stream}); });
  const std::string behind_it = MessageOf([&] { stream.Synchronize(); });
  EXPECT_THAT(sync ? at_launch : behind_it, HasSubstr("broken_kernel"));
  EXPECT_EQ(sync, at_launch.find("launching broken_kernel") != std::string::npos) << at_launch;
  emulation::TakeReport();
}

TEST(EmulatedRuntimeTest, EverythingFailsBehindABrokenKernelUntilTaken) {
  Stream stream;
  const OnDevice<int> value(stream, {0});
  Launch(KERNEL(broken_kernel), {.grid = 1, .block = 32, .stream = stream});
  EXPECT_THAT(MessageOf([&] { stream.Synchronize(); }), HasSubstr("broken_kernel"));
  EXPECT_THAT(MessageOf([&] { Write(stream, value.data(), 1); }),
              AllOf(HasSubstr("launching write_kernel"), HasSubstr("broken_kernel"),
                    HasSubstr("emulator_runtime_test.cc")));
  EXPECT_THAT(MessageOf([&] { DeviceMemory(16, "weights"); }), HasSubstr("broken_kernel"));
  EXPECT_THAT(emulation::TakeReport(), HasSubstr("broken_kernel"));
  Write(stream, value.data(), 2);
  EXPECT_EQ(value.Read()[0], 2);
}

TEST(EmulatedRuntimeTest, AStreamWaitsForAnEventOfAnother) {
  HandOver hand_over;
  Stream second;
  Event event;
  const OnDevice<float> copy(second, std::vector<float>(HandOver::kN));
  *hand_over.step() = 1;
  hand_over.Enqueue();
  hand_over.stream.Record(event);
  second.Wait(event);
  second.Copy(copy.data(), hand_over.x.data(), HandOver::kN * sizeof(float));
  EXPECT_FALSE(event.Reached());
  EXPECT_FALSE(second.Finished());
  hand_over.Answer(1);
  event.Synchronize();
  EXPECT_THAT(copy.Read(), Each(3.0f));
}

TEST(EmulatedRuntimeTest, EventsTellTime) {
  Stream stream;
  Event start(Event::Timing::kOn);
  Event end(Event::Timing::kOn);
  stream.Record(start);
  stream.Call([](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }, nullptr);
  stream.Record(end);
  end.Synchronize();
  EXPECT_GE(ElapsedMs(start, end), 2.0f);
}

TEST(EmulatedRuntimeTest, CaptureSpansStreamsThatJoin) {
  Stream first, second;
  Event fork, join;
  const OnDevice<int> a(first, {0});
  const OnDevice<int> b(first, {0});
  GraphCapture capture(first);
  first.Record(fork);
  second.Wait(fork);
  Write(second, b.data(), 2);
  second.Record(join);
  Write(first, a.data(), 1);
  first.Wait(join);
  Graph graph = capture.Finish();
  EXPECT_EQ(graph.n_nodes(), 2u);
  EXPECT_FALSE(second.Capturing());
  EXPECT_EQ(a.Read()[0], 0);
  graph.Launch(first);
  EXPECT_EQ(a.Read()[0], 1);
  EXPECT_EQ(b.Read()[0], 2);
}

TEST(EmulatedRuntimeTest, CaptureMustBeJoined) {
  Stream first, second;
  Event fork;
  const OnDevice<int> value(first, {0});
  GraphCapture capture(first);
  first.Record(fork);
  second.Wait(fork);
  Write(second, value.data(), 1);
  EXPECT_THAT(MessageOf([&] { capture.Finish(); }), HasSubstr("not joined"));
}

TEST(EmulatedRuntimeTest, WhatCannotBeCapturedIsAnError) {
  Stream stream;
  {
    GraphCapture capture(stream);
    EXPECT_THAT(MessageOf([&] { stream.Synchronize(); }), HasSubstr("being captured"));
    EXPECT_THAT(MessageOf([&] { capture.Finish(); }), HasSubstr("invalidated"));
  }
  {
    GraphCapture capture(stream);
    EXPECT_THAT(MessageOf([&] { DeviceMemory(16, "weights"); }), HasSubstr("being captured"));
  }
  EXPECT_FALSE(stream.Capturing());
  stream.Synchronize();
}

TEST(EmulatedRuntimeTest, CopiesStayInsideAllocations) {
  Stream stream;
  const DeviceMemory memory(100, "a test");
  std::vector<std::byte> host(200);
  EXPECT_THAT(MessageOf([&] { stream.Copy(memory.as<char>(), host.data(), 101); }),
              HasSubstr("invalid argument"));
  EXPECT_THAT(MessageOf([&] { stream.Copy(host.data(), memory.as<char>() + 1, 100); }),
              HasSubstr("invalid argument"));
  EXPECT_THAT(MessageOf([&] { stream.Fill(memory.as<char>() + 50, 0, 51); }),
              HasSubstr("invalid argument"));
  EXPECT_THAT(MessageOf([&] { stream.Fill(host.data(), 0, 1); }), HasSubstr("invalid argument"));
  stream.Fill(memory.as<char>() + 50, 3, 50);
  stream.Copy(host.data(), memory.as<char>(), 100);
  EXPECT_EQ(host[49], std::byte{0xff}) << "fresh memory";
  EXPECT_EQ(host[50], std::byte{3});
}

TEST(EmulatedRuntimeTest, OutOfMemorySaysForWhatAndHowMuch) {
  const SettingsGuard guard;
  emulation::Settings settings = emulation::CurrentSettings();
  settings.device_bytes = 1 << 20;
  emulation::ChangeSettings(settings);
  const DeviceMemory half(1 << 19, "weights");
  EXPECT_THAT(MessageOf([] { DeviceMemory((1 << 19) + 1, "the KV cache"); }),
              AllOf(HasSubstr("no GPU memory for the KV cache"), HasSubstr("found 512.0 KiB free"),
                    HasSubstr("of 1.00 MiB")));
  EXPECT_EQ(DeviceMemory(1 << 19, "the KV cache").size(), 1u << 19);
}

TEST(GpuSupportTest, SaysWhatItFound) {
  const SettingsGuard guard;
  const GpuSupport there = QueryGpuSupport();
  EXPECT_TRUE(there.available);
  EXPECT_THAT(there.device, HasSubstr("emulated device, compute capability 7.5"));
  emulation::Settings settings = emulation::CurrentSettings();
  settings.n_devices = 0;
  emulation::ChangeSettings(settings);
  const GpuSupport none = QueryGpuSupport();
  EXPECT_FALSE(none.available);
  EXPECT_THAT(none.reason, HasSubstr("finds no GPU"));
}

}  // namespace
}  // namespace thermocline
