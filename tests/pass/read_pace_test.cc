#include "runtime/pass/read_pace.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

using std::chrono::milliseconds;

TEST(ReadPace, GivesBytesAtItsRateAndSavesNothingUp) {
  ReadPace pace(1e6);
  const ReadPace::Clock::time_point start(std::chrono::seconds(100));
  EXPECT_EQ(pace.Due(start, 5000), start + milliseconds(5));
  // Asked for while that still comes: behind it.
  EXPECT_EQ(pace.Due(start + milliseconds(2), 1000), start + milliseconds(6));
  // After a while of nothing: no sooner than its own bytes take.
  EXPECT_EQ(pace.Due(start + milliseconds(50), 3000), start + milliseconds(53));
  EXPECT_EQ(pace.Due(start + milliseconds(60), 0), start + milliseconds(60));
}

TEST(ReadPace, WaitsUntilTheTimeItIsGiven) {
  const auto due = ReadPace::Clock::now() + milliseconds(3);
  ReadPace::WaitUntil(due);
  EXPECT_GE(ReadPace::Clock::now(), due);
  ReadPace::WaitUntil(due);  // is over already
}

// Each neuron once, whatever the number of tokens: as a memory gives it.
TEST(ReadPace, CountsEachNeuronOnce) {
  const std::vector<float> memory(3 * 64);
  FfnSlice slice;
  slice.n_neurons = 16;
  slice.gate = DenseView(memory.data(), DType::kF32, 16, 4);
  slice.up = DenseView(memory.data(), DType::kF32, 16, 4);
  slice.down = DenseView(memory.data(), DType::kF32, 16, 4);
  const uint64_t matrix = slice.gate.weight_bytes();
  EXPECT_EQ(matrix, 256);
  EXPECT_EQ(ReadBytes(slice, {}), 3 * matrix) << "a batch as a whole";
  EXPECT_EQ(ReadBytes(slice, {.tokens = 1, .gates = 16, .active = 4}), matrix + matrix / 2);
  EXPECT_EQ(ReadBytes(slice, {.tokens = 3, .gates = 48, .active = 12}), matrix + 3 * matrix / 2);
  EXPECT_EQ(ReadBytes(slice, {.tokens = 3, .gates = 48, .active = 40}), 3 * matrix);
  slice.n_neurons = 0;
  EXPECT_EQ(ReadBytes(slice, {}), 0);
}

TEST(ReadPace, ChangesNoLogits) {
  const TempDir dir;
  EngineOptions options;
  options.model_path = GoldenModel("gqa_relu");
  options.n_threads = 2;
  options.placement_path = dir.file("p.gguf");
  WriteShuffledPlacement(options.model_path, options.placement_path);
  const std::vector<int32_t> prompt = {1, 40, 41, 42, 9};
  const std::vector<int32_t> next = {50};
  std::vector<std::vector<float>> found;
  for (const double limit : {0.0, 1e8}) {
    options.slow_tier_bytes_per_s = limit;
    Engine engine(options);
    const auto whole = engine.Feed(prompt);
    found.emplace_back(whole.begin(), whole.end());
    const auto one = engine.Feed(next);
    found.emplace_back(one.begin(), one.end());
  }
  EXPECT_EQ(found[2], found[0]);
  EXPECT_EQ(found[3], found[1]);
  options.placement_path.clear();
  EXPECT_THROW(Engine{options}, Error) << "there is no slow tier";
}

}  // namespace
}  // namespace thermocline
