// Neurons that change places between a GPU and the CPU while a model runs: rows in a form of the
// GPU's own, counters in its memory, and passes that it keeps.
#include <gmock/gmock.h>

#include <set>

#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/moves/moved_model.h"

namespace thermocline {
namespace {

constexpr double kMovedTolerance = 1e-2;

class GpuMoves : public GpuTier {
 protected:
  EngineOptions MovingRun(const GpuRun& run) {
    EngineOptions options = Options(run);
    options.adapt = Adapt::kOn;
    options.adapt_in_step = true;
    options.adapt_tokens_between = 1;
    return options;
  }
};

// Passes are kept before anything moves, and carried out again with what has come. The GPU counts
// what the CPU counts in its place, so that the same neurons move but for some whose gates are next
// to 0.
TEST_F(GpuMoves, KeptPassesComputeWhatHasCome) {
  GpuRun run{.model = Golden("gqa_relu"), .sparse = "exact", .hot_share = 0.5};
  Engine on_gpu(MovingRun(run));
  run.tier = FastTier::kCpu;
  Engine on_cpu(MovingRun(run));
  const std::vector<float> before = Logits(on_gpu, 2);
  Logits(on_cpu, 2);
  FeedTokens(on_gpu, 14, 16);
  FeedTokens(on_cpu, 14, 16);
  EXPECT_GT(on_gpu.mover()->n_swaps(), 0);
  ExpectWholeNeurons(on_gpu);
  const Placement a = on_gpu.LearnedPlacement();
  const Placement b = on_cpu.LearnedPlacement();
  for (size_t l = 0; l < a.layers.size(); ++l) {
    const auto hot = [](const LayerPlacement& layer) {
      const auto first = layer.neuron_order.begin();
      return std::set<int32_t>(first, first + layer.n_on[kVram]);
    };
    std::vector<int32_t> apart;
    std::ranges::set_difference(hot(a.layers[l]), hot(b.layers[l]), std::back_inserter(apart));
    EXPECT_LE(apart.size(), 3U) << l;
  }
  on_gpu.Reset();
  EXPECT_LE(MaxDifference(Logits(on_gpu, 2), before), kMovedTolerance);
}

// Beside what a run without moves takes; of a tiny model's buffers the rest is not planned exactly.
TEST_F(GpuMoves, TakesTheMemoryThatWasPlanned) {
  EngineOptions options =
      MovingRun({.model = Golden("gqa_relu"), .sparse = "exact", .hot_share = 0.5});
  const Engine moving(options);
  options.adapt = Adapt::kOff;
  const Engine still(options);
  for (size_t tier = 0; tier < 2; ++tier) {
    EXPECT_EQ(moving.UsedBytes()[tier] - still.UsedBytes()[tier],
              moving.model().Plan().total_bytes(tier) - still.model().Plan().total_bytes(tier));
    EXPECT_GT(moving.UsedBytes()[tier], still.UsedBytes()[tier]);
  }
}

// Where it pays, nobody has to ask for it.
TEST_F(GpuMoves, AutoMovesWithAGpu) {
  EngineOptions options =
      MovingRun({.model = Golden("gqa_relu"), .sparse = "exact", .hot_share = 0.5});
  options.adapt = Adapt::kAuto;
  EXPECT_TRUE(OpenedModel(options).adapt().moves);
}

// Of every type and layout: rows that are exchanged are the rows that are stored.
TEST_F(GpuMoves, ExchangedRowsAreStoredRows) {
  const OpenedModel model(Options({.model = Golden("gqa_relu")}));
  const auto device = MakeGpuDevice("gpu", model.fast_tier_needs());
  QueuedDevice& queued = *device->queued();
  for (const DType dtype : kWeightDTypes) {
    const int64_t cols = GetDTypeInfo(dtype).block_elems == 256 ? 512 : 96;
    const auto row_bytes = static_cast<size_t>(RowBytes(dtype, cols));
    std::vector<std::byte> source(6 * row_bytes);
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 37 % 251);
    const TensorView in_file = DenseView(source.data(), dtype, 6, cols);
    const std::vector<int32_t> first = {0, 1, 2};
    const std::vector<int32_t> wanted = {5, 1, 3};
    const TensorView stored = queued.StoreRows(in_file, first, "a test");
    const TensorView expected = queued.StoreRows(in_file, wanted, "a test");
    const auto numbers = static_cast<float*>(queued.Allocate(2 * sizeof(float), "a test"));
    const auto exchange = queued.MakeRowExchange({.max_rows = 3, .dtypes = {dtype}, .cols = cols});
    // Twice, as buffers are used again.
    for (int round = 0; round < 2; ++round) {
      exchange->StageRow(stored, 0, in_file.row(round == 0 ? 4 : 5));
      exchange->StageRow(stored, 2, in_file.row(3));
      exchange->StageFloat(numbers + 1, 7.5F);
      exchange->Send();
      exchange->Commit();
    }
    const auto n_bytes = static_cast<uint64_t>(3 * stored.row_stride_bytes);
    std::vector<std::byte> found(n_bytes);
    std::vector<std::byte> right(n_bytes);
    queued.Download(found.data(), stored.data, n_bytes);
    queued.Download(right.data(), expected.data, n_bytes);
    EXPECT_EQ(found, right) << DTypeName(dtype);
    float pair[2];
    queued.Download(pair, numbers, sizeof pair);
    EXPECT_EQ(pair[0], 0);
    EXPECT_EQ(pair[1], 7.5F);
  }
}

}  // namespace
}  // namespace thermocline
