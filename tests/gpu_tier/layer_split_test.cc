// Models without a placement that do not, or shall not, lie on the GPU whole.
#include <gmock/gmock.h>

#include <cstdlib>

#include "gpu_kernels/base/device_memory.h"
#include "profiler/activations/profile_run.h"
#include "runtime/core/error.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"
#ifdef THERMOCLINE_GPU_EMULATED
#include "tests/gpu_kernels/emulated_run.h"
#endif

namespace thermocline {
namespace {

using testing::HasSubstr;

class LayerSplit : public GpuTier {
 protected:
  EngineOptions GpuOptions() { return Options({.model = Golden("gqa_relu")}); }
  static int64_t LayersThere(const OpenedModel& model) {
    int64_t n = 0;
    for (const LayerPlacement& layer : model.placement()->layers) {
      EXPECT_TRUE(layer.n_on[kVram] == 0 || layer.n_on[kDram] == 0);
      n += layer.n_on[kVram] > 0 ? 1 : 0;
    }
    return n;
  }
};

// Keeps the first rows and columns of an F32 matrix.
void Crop(EditedTensor& tensor, size_t rows, size_t cols) {
  const size_t row_bytes = tensor.dims[0] * sizeof(float);
  std::vector<std::byte> cropped;
  for (size_t r = 0; r < rows; ++r) {
    const auto row = tensor.bytes.begin() + static_cast<int64_t>(r * row_bytes);
    cropped.insert(cropped.end(), row, row + static_cast<int64_t>(cols * sizeof(float)));
  }
  tensor = {tensor.dtype, {cols, rows}, std::move(cropped)};
}

GgufValue OnePerLayer(int64_t first, int64_t second) {
  return GgufValue::array(GgufType::kI32, std::vector<int64_t>{first, second});
}

TEST_F(LayerSplit, LayersWithDifferentNumbersOfNeurons) {
  const std::string model = dir_.file("model.gguf");
  const auto edit = [](EditedFile& file) {
    file.keys["llama.feed_forward_length"] = OnePerLayer(96, 32);
    Crop(file.tensors["blk.1.ffn_gate.weight"], 32, 64);
    Crop(file.tensors["blk.1.ffn_up.weight"], 32, 64);
    Crop(file.tensors["blk.1.ffn_down.weight"], 64, 32);
  };
  WriteEdited(Golden("gqa_relu"), model, edit, "GGUF");
  const std::vector<float> expected = Logits({.model = model, .tier = FastTier::kCpu});
  for (const int64_t n_layers : {0, 1, 2}) {
    EngineOptions options = Options({.model = model});
    options.gpu_layers = n_layers;
    Engine engine(options);
    EXPECT_FALSE(engine.model().gpu().empty());
    EXPECT_LT(MaxDifference(Logits(engine), expected), 1e-2) << n_layers;
  }
}

TEST_F(LayerSplit, LayersWithDifferentNumbersOfHeadsAreRefused) {
  EngineOptions options = GpuOptions();
  options.model_path = dir_.file("model.gguf");
  const auto edit = [](EditedFile& file) {
    file.keys["llama.attention.key_length"] = GgufValue::u32(16);
    file.keys["llama.attention.head_count"] = OnePerLayer(4, 2);
    file.keys["llama.attention.head_count_kv"] = OnePerLayer(2, 1);
    Crop(file.tensors["blk.1.attn_q.weight"], 32, 64);
    Crop(file.tensors["blk.1.attn_k.weight"], 16, 64);
    Crop(file.tensors["blk.1.attn_v.weight"], 16, 64);
    Crop(file.tensors["blk.1.attn_output.weight"], 64, 32);
  };
  WriteEdited(Golden("gqa_relu"), options.model_path, edit, "GGUF");
  EXPECT_THAT(
      MessageOf([&] { OpenedModel{options}; }),
      testing::AllOf(HasSubstr("different numbers of heads"), HasSubstr("4 heads and 2 KV heads"),
                     HasSubstr("run the model on the CPU")));
  options.fast_tier = FastTier::kCpu;
  EXPECT_EQ(MessageOf([&] { OpenedModel{options}; }), "");
}

TEST_F(LayerSplit, SoManyAsAskedForAndTheSameLogits) {
  const std::vector<float> expected =
      Logits({.model = Golden("gqa_relu"), .tier = FastTier::kCpu, .hot_share = 0.5});
  EngineOptions options = GpuOptions();
  for (const int64_t n_layers : {1, 2, 99}) {
    options.gpu_layers = n_layers;
    Engine engine(options);
    const OpenedModel& model = engine.model();
    EXPECT_FALSE(model.gpu().empty());
    if (n_layers == 1) {
      ASSERT_NE(model.placement(), nullptr);
      EXPECT_EQ(LayersThere(model), 1);
      EXPECT_THAT(model.gpu_note().text, HasSubstr("1 of 2 layers"));
    } else {
      EXPECT_EQ(model.placement(), nullptr);
      EXPECT_EQ(model.gpu_note().text, "");
    }
    EXPECT_LT(MaxDifference(Logits(engine), expected), 1e-2) << n_layers;
  }
}

#ifdef THERMOCLINE_GPU_EMULATED
// The plan of the whole model is a byte too much, then that of one layer, then everything fits.
TEST_F(LayerSplit, AsManyAsFit) {
  const SettingsGuard guard;
  const EngineOptions options = GpuOptions();
  const MemoryPlan whole = OpenedModel(options).Plan();
  const auto give = [](uint64_t n_bytes) {
    emulation::Settings settings = emulation::CurrentSettings();
    settings.device_bytes = n_bytes;
    emulation::ChangeSettings(settings);
  };
  constexpr uint64_t kReserve = uint64_t{384} << 20;
  give(whole.total_bytes(0) + kReserve);
  EXPECT_EQ(OpenedModel(options).placement(), nullptr);
  // The stream for cold neurons needs more than this tiny model's layers.
  EngineOptions no_stream = options;
  no_stream.gpu_stream = StreamCold::kOff;
  give(whole.total_bytes(0) + kReserve - 1);
  const OpenedModel split(no_stream);
  ASSERT_NE(split.placement(), nullptr);
  EXPECT_EQ(LayersThere(split), 1);
  EXPECT_LE(split.Plan().total_bytes(0) + kReserve, QueryDeviceMemory().free_bytes);
  EXPECT_THAT(split.gpu_note().text, HasSubstr("a placement puts the hot neurons"));
  EXPECT_THAT(split.gpu_note().jobs, testing::ElementsAre(Job::kProfile));

  give(kReserve + 1000);
  EXPECT_THAT([&] { OpenedModel opened(no_stream); },
              testing::ThrowsMessage<Error>(HasSubstr("does not fit the GPU's memory")));
}
#endif

// Counting on the GPU and on the CPU gives profiles that lie a rounding apart.
TEST_F(LayerSplit, ProfilesAreThoseOfTheCpu) {
  ProfileOptions profile;
  profile.text_path = DemoFile("calibration.txt");
  profile.max_tokens = 128;
  std::vector<ProfileStats> stats;
  for (const FastTier tier : {FastTier::kCpu, FastTier::kGpu}) {
    EngineOptions options =
        Options({.model = DemoFile("classics-9m-relu-q8_0.gguf"), .sparse = "dense", .tier = tier});
    options.may_split_layers = false;
    Engine engine(options);
    EXPECT_EQ(engine.model().gpu().empty(), tier == FastTier::kCpu);
    ProfileTexts texts(engine.model(), engine.tokenizer(), profile);
    ProfileRun run(engine, texts, profile);
    run.Calibrate();
    run.HoldOut({});
    stats.push_back(run.stats());
  }
  double n_cpu = 0;
  double n_apart = 0;
  double mass[2] = {0, 0};
  for (size_t l = 0; l < stats[0].calibration.layers.size(); ++l) {
    const LayerActivity& cpu = stats[0].calibration.layers[l];
    const LayerActivity& gpu = stats[1].calibration.layers[l];
    for (size_t i = 0; i < cpu.count.size(); ++i) {
      n_cpu += static_cast<double>(cpu.count[i]);
      n_apart += static_cast<double>(std::abs(cpu.count[i] - gpu.count[i]));
      mass[0] += cpu.mass[i];
      mass[1] += gpu.mass[i];
    }
  }
  EXPECT_GT(n_cpu, 10'000);
  EXPECT_LT(n_apart, 0.02 * n_cpu);
  EXPECT_NEAR(mass[1], mass[0], 0.01 * mass[0]);
}

}  // namespace
}  // namespace thermocline
