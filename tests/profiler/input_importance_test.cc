// What profiling says of the inputs of the model's matrices, and what quantising makes of it.
#include "profiler/activations/input_importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cpu_kernels/kernels.h"
#include "profiler/activations/profile_file.h"
#include "profiler/activations/profile_run.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/placement.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

EngineOptions WatchingOptions() {
  EngineOptions options;
  options.model_path = ReluModelPath();
  options.sparse = "dense";
  options.n_threads = 2;
  options.context_tokens = 32;
  options.watch_attention = true;
  return options;
}

class InputImportanceTest : public testing::Test {
 protected:
  InputImportanceTest() { WriteWholeFile(dir_.file("text"), WordText(400)); }

  ProfileStats Profile() {
    Engine engine(WatchingOptions());
    ProfileOptions options;
    options.text_path = dir_.file("text");
    ProfileTexts texts(engine.model(), engine.tokenizer(), options);
    ProfileRun run(engine, texts, options);
    run.Calibrate();
    run.HoldOut({});
    return run.stats();
  }
  // Returns what reading the importance says of the file these statistics make.
  std::string ErrorFor(const ProfileStats& stats) {
    WriteProfile(dir_.file("p"), stats);
    return ErrorOf([&] { ReadImportance(dir_.file("p"), ReluModelPath()); });
  }

  TempDir dir_;
};

// Keeps nothing but sums over what the second layer's attention wrote.
class AttendedSquares final : public FfnObserver {
 public:
  void OnFfn(const Lane& lane, const FfnObservation& seen) override {
    if (lane.rank == 0 && seen.layer == 1) {
      const int64_t n = seen.n_tokens * static_cast<int64_t>(sums.size());
      for (int64_t i = 0; i < n; ++i) {
        sums[static_cast<size_t>(i) % sums.size()] += std::pow(seen.attended[i], 2);
      }
    }
    lane.Sync();
  }
  std::vector<double> sums = std::vector<double>(64);
};

// Layer by layer, with the norms computed once more from the residual stream.
TEST_F(InputImportanceTest, SquaresAreThoseOfWhatTheMatricesRead) {
  Engine engine(WatchingOptions());
  const ModelConfig& config = engine.config();
  const ChannelOrders orders;
  ActivationCounter counter(config, ChannelNorms(engine.model(), orders), orders, 0);
  SplitActivity split;
  std::vector<LayerInputSquares> squares;
  counter.CountInto(&split, nullptr);
  counter.SumSquaresInto(&squares);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 20; ++i) ids.push_back(3 + 7 * i % 200);
  const auto d = static_cast<size_t>(config.d_model);
  std::vector<float> x(ids.size() * d);
  Executor& executor = engine.executor();
  executor.Embed(ids, x.data());
  for (int64_t l = 0; l < config.n_layers; ++l) {
    std::vector<double> expected(d);
    const float* const weight = engine.weights().layers[static_cast<size_t>(l)].attn_norm.weight;
    for (size_t t = 0; t < ids.size(); ++t) {
      double sum = 0;
      for (size_t i = 0; i < d; ++i) sum += std::pow(x[t * d + i], 2);
      const double scale = 1 / std::sqrt(sum / static_cast<double>(d) + config.norm_eps);
      for (size_t i = 0; i < d; ++i) expected[i] += std::pow(x[t * d + i] * scale * weight[i], 2);
    }
    const ScopedObserver watching(executor, &counter);
    executor.RunLayers(x.data(), static_cast<int64_t>(ids.size()), 0, l, l + 1);
    for (size_t i = 0; i < d; ++i) {
      ASSERT_NEAR(squares[static_cast<size_t>(l)].attention[i], expected[i], 1e-4 * expected[i]);
    }
  }
  AttendedSquares attended;
  executor.Embed(ids, x.data());
  const ScopedObserver watching(executor, &attended);
  executor.RunLayers(x.data(), static_cast<int64_t>(ids.size()), 0, 0, config.n_layers);
  ASSERT_EQ(squares[1].attended.size(), attended.sums.size());
  for (size_t i = 0; i < attended.sums.size(); ++i) {
    EXPECT_NEAR(squares[1].attended[i], attended.sums[i], 1e-4 * attended.sums[i]);
  }
}

TEST_F(InputImportanceTest, NeuronsThatNeverFireHaveNone) {
  const ProfileStats stats = Profile();
  ASSERT_EQ(stats.input_squares.size(), 2U);
  for (size_t l = 0; l < 2; ++l) {
    for (size_t i = 0; i < 96; ++i) {
      EXPECT_EQ(stats.calibration.layers[l].count[i] == 0, stats.input_squares[l].down[i] == 0);
    }
    EXPECT_THAT(stats.input_squares[l].ffn, testing::Each(testing::Gt(0)));
  }
  WriteProfile(dir_.file("p"), stats);
  const ProfileStats read = ReadProfile(dir_.file("p"));
  EXPECT_EQ(read.input_squares[1].down, stats.input_squares[1].down);
  EXPECT_EQ(read.input_squares[0].attended, stats.input_squares[0].attended);
  const ImportanceByName importance = ReadImportance(dir_.file("p"), ReluModelPath());
  EXPECT_EQ(importance.size(), 2U * 7);
  EXPECT_EQ(importance.at("blk.1.ffn_down.weight").size(), 96U);
  EXPECT_FLOAT_EQ(importance.at("blk.0.attn_v.weight")[3],
                  static_cast<float>(stats.input_squares[0].attention[3] /
                                     static_cast<double>(stats.calibration.n_tokens)));
}

TEST_F(InputImportanceTest, WrongProfilesAreRefused) {
  const ProfileStats stats = Profile();
  ProfileStats changed = stats;
  changed.input_squares.clear();
  EXPECT_THAT(ErrorFor(changed), HasSubstr("found none; profile the model again"));
  changed = stats;
  changed.input_squares[1].ffn.pop_back();
  EXPECT_THAT(ErrorFor(changed),
              HasSubstr("the inputs of blk.1.ffn_gate.weight: expected 64, found 63"));
  changed = stats;
  changed.input_squares[0].down[2] = NAN;
  EXPECT_THAT(ErrorFor(changed), HasSubstr("blk.0.input_squares.down: expected finite numbers"));
  changed = stats;
  changed.model_fingerprint = "0123456789abcdef";
  EXPECT_THAT(ErrorFor(changed), HasSubstr("the profile was made of another model"));
}

// Returns the squared error of a file's matrix that counts: times the importance of its column.
double CountedError(const std::string& path, const std::string& name,
                    const std::vector<float>& importance) {
  const GgufReader before(ReluModelPath());
  const GgufReader after(path);
  const GgufTensorInfo* const info = before.FindTensor(name);
  const auto rows = static_cast<int64_t>(info->rows());
  const auto cols = static_cast<int64_t>(info->cols());
  std::vector<float> a(info->cols());
  std::vector<float> b(info->cols());
  double error = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const auto read = [&](const GgufReader& gguf, std::vector<float>* row) {
      const TensorView view = gguf.RequireMatrix(name, rows, cols);
      CpuKernels().dequantize_f32(view.dtype, view.row(r), 0, cols, row->data());
    };
    read(before, &a);
    read(after, &b);
    for (size_t c = 0; c < a.size(); ++c) error += importance[c] * std::pow(a[c] - b[c], 2);
  }
  return error;
}

TEST_F(InputImportanceTest, LowersTheErrorThatCounts) {
  WriteProfile(dir_.file("p"), Profile());
  QuantizeOptions options;
  options.rule.dtype = DType::kQ4_1;
  QuantizeModel(ReluModelPath(), dir_.file("plain"), options);
  options.importance = ReadImportance(dir_.file("p"), ReluModelPath());
  QuantizeModel(ReluModelPath(), dir_.file("counted"), options);
  for (const auto& [name, importance] : options.importance) {
    EXPECT_LT(CountedError(dir_.file("counted"), name, importance),
              CountedError(dir_.file("plain"), name, importance))
        << name;
  }
}

}  // namespace
}  // namespace thermocline
