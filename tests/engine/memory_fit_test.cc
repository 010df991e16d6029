// What a run takes is what its plan says, and a run that would take more than there is is refused
// before it reads weights.
#include "runtime/engine/memory_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "runtime/synth/synth.h"
#include "tests/placement/placements.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kGolden = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/";

EngineOptions OptionsFor(const std::string& model) {
  EngineOptions options;
  options.model_path = kGolden + model;
  options.fast_tier = FastTier::kCpu;
  options.n_threads = 2;
  return options;
}

class MemoryUse : public testing::TestWithParam<std::string> {};

TEST_P(MemoryUse, IsWhatWasPlanned) {
  const TempDir directory;
  for (const double split : {-1.0, 0.0, 0.5, 1.0}) {
    for (const bool copy : {false, true}) {
      EngineOptions options = OptionsFor(GetParam());
      options.copy_weights = copy;
      if (split >= 0) {
        const OpenedModel model(options);
        options.placement_path = directory.file("p.gguf");
        Placement placement = ShuffledPlacement(model.gguf().fingerprint(), model.config().n_layers,
                                                model.config().d_ff, split);
        if (split < 1) placement.layers.back().attention = kDram;
        WritePlacement(options.placement_path, placement);
      }
      const Engine engine(options);
      const MemoryPlan plan = engine.model().Plan();
      const std::vector<uint64_t> used = engine.UsedBytes();
      for (size_t tier = 0; tier < used.size(); ++tier) {
        EXPECT_EQ(used[tier], plan.total_bytes(tier)) << split << ", tier " << tier << ", " << copy;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, MemoryUse,
                         testing::Values("gqa_relu.gguf", "mha_silu_tied.gguf", "mqa_relu_sqr.gguf",
                                         "rope_linear.gguf", "rope_llama3.gguf",
                                         "rope_partial.gguf", "rope_theta_500k.gguf",
                                         "rope_yarn.gguf", "wide_heads.gguf"),
                         [](const auto& param) {
                           return param.param.substr(0, param.param.find('.'));
                         });

class MemoryFit : public testing::Test {
 protected:
  MemoryFit() {
    SynthOptions synth;
    synth.n_layers = 2;
    synth.d_model = 64;
    synth.d_ff = 128;
    synth.n_heads = 2;
    synth.n_kv_heads = 2;
    synth.vocab_size = 260;
    synth.max_seq_len = kContext;
    WriteSynthModel(dir_.file("m.gguf"), synth);
    options_.model_path = dir_.file("m.gguf");
    options_.fast_tier = FastTier::kCpu;
    options_.batch_tokens = 128;
  }

  std::string MessageFor(uint64_t n_bytes) const {
    const OpenedModel model(options_);
    return MessageOf([&] { RequireMemory(model, AvailableMemory{n_bytes, "the group /a"}); });
  }
  uint64_t Planned(int64_t context, int64_t batch, DType cache) const {
    EngineOptions options = options_;
    options.context_tokens = context;
    options.batch_tokens = batch;
    options.cache_type = cache;
    return PlannedHostBytes(OpenedModel(options));
  }

  static constexpr int64_t kContext = 4096;
  TempDir dir_;
  EngineOptions options_;
};

// With everything on the fast tier there is no other: nothing is held there, and nothing handed
// over.
TEST_F(MemoryFit, ABudgetLargerThanTheModelHasNoColdPath) {
  options_.context_tokens = 64;
  const OpenedModel opened(options_);
  options_.placement_path = dir_.file("p.gguf");
  Placement all = ShuffledPlacement(opened.gguf().fingerprint(), opened.config(), 1.0);
  for (LayerPlacement& layer : all.layers) layer.attention = kVram;
  WritePlacement(options_.placement_path, all);
  Engine placed(options_);
  EXPECT_EQ(placed.UsedBytes().size(), 1U);
  EXPECT_EQ(placed.model().Plan().total_bytes(1), 0U);
  PassProfile profile(placed.model().n_threads());
  placed.executor().set_profile(&profile);
  placed.Feed(std::vector<int32_t>{5, 6, 7});
  placed.executor().set_profile(nullptr);
  for (int thread = 0; thread < profile.n_threads(); ++thread) {
    for (const PassPart part : {PassPart::kSend, PassPart::kAwait}) {
      EXPECT_EQ(profile.thread_times(thread)[static_cast<size_t>(part)], 0) << PassPartName(part);
    }
  }
}

TEST_F(MemoryFit, WhatFitsIsTaken) {
  const uint64_t planned = Planned(kContext, 128, DType::kF16);
  EXPECT_EQ(MessageFor(planned), "");
  EXPECT_EQ(MessageOf([&] { RequireMemory(OpenedModel(options_), std::nullopt); }), "");
  EXPECT_THAT(MessageFor(planned - 1), AllOf(HasSubstr("m.gguf: the run would take more"),
                                             HasSubstr("(the group /a), found ")));
  options_.overcommit = true;
  EXPECT_EQ(MessageFor(1), "");
}

// The change that is offered fits, and the one before it does not.
TEST_F(MemoryFit, TheLeastChangeIsOffered) {
  EXPECT_THAT(MessageFor(Planned(kContext, 64, DType::kF16)),
              HasSubstr("a batch of 64 tokens fits"));
  EXPECT_THAT(MessageFor(Planned(kContext, 32, DType::kF16)),
              HasSubstr("a batch of 32 tokens fits"));
  options_.batch_tokens = 32;
  const uint64_t narrow = Planned(kContext, 32, DType::kQ8_0);
  EXPECT_THAT(MessageFor(narrow), HasSubstr("a KV cache of q8_0 fits"));
  ASSERT_GT(kContext, 1024);
  const uint64_t with_1024 = Planned(1024, 32, DType::kF16);
  ASSERT_LT(with_1024, narrow);
  EXPECT_THAT(MessageFor(with_1024), HasSubstr("a context of 1024 tokens fits"));
  EXPECT_THAT(MessageFor(Planned(512, 32, DType::kF16) - 1), HasSubstr("with a KV cache of q8_0"));
  EXPECT_THAT(MessageFor(Planned(512, 32, DType::kQ8_0) - 1),
              HasSubstr("take a model quantised further"));
}

}  // namespace
}  // namespace thermocline
