// Drafts of the hot neurons with a GPU as the fast tier: as on the CPU, with stand-ins of every
// kind; and kept passes of the draft and of the model, of one shape, do not take each other's
// place.
#include <gtest/gtest.h>

#include <memory>

#include "profiler/drafts/draft_choice.h"
#include "profiler/drafts/draft_workshop.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/profiler/profiler_testing.h"

namespace thermocline {
namespace {

class GpuDraft : public GpuTier {
 protected:
  // A third hot, a group in 3 and one in 2 bits, the rest by a map and a bias.
  std::shared_ptr<const DraftFile> MakeDraft(const std::string& model_path) {
    WriteWholeFile(dir_.file("text"), WordText(600));
    DraftWork work;
    work.engine.model_path = model_path;
    work.engine.n_threads = 2;
    OpenedModel model(work.engine);
    FitWindow(model.config(), &work);
    const DraftTexts texts =
        ReadDraftTexts(model, {.path = dir_.file("text")}, work.window_tokens, {});
    const ProfileStats stats = CountForDrafts(work, texts);
    DraftWorkshop shop(work, stats, texts);
    const auto layers = static_cast<size_t>(model.config().n_layers);
    const int64_t part = model.config().d_ff / 6;
    DraftRecipe recipe;
    recipe.n_hot.assign(layers, 2 * part);
    recipe.slices.push_back({DType::kS3_0, std::vector<int64_t>(layers, part)});
    recipe.slices.push_back({DType::kS2_0, std::vector<int64_t>(layers, 2 * part)});
    recipe.rank = 32;
    return std::make_shared<const DraftFile>(shop.builder().Build(recipe));
  }

  // What the draft says of a few tokens, each of which the model reads after it.
  std::vector<float> DraftedLogits(FastTier tier, std::shared_ptr<const DraftFile> draft,
                                   const std::string& model, std::vector<float>* of_model) {
    EngineOptions options = Options({.model = model, .tier = tier});
    options.always_per_neuron = false;
    options.draft = draft;
    Engine engine(options);
    DraftPass pass(engine, *draft);
    EXPECT_EQ(engine.model().has_cold(), tier == FastTier::kGpu);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 20; ++i) ids.push_back(5 + i * 7);
    engine.Feed(std::span(ids).first(12));
    std::vector<float> all;
    for (size_t i = 12; i < ids.size(); ++i) {
      const SequenceInput one{.sequence = engine.main_sequence(), .ids = {&ids[i], 1}};
      const int64_t length = engine.n_past();
      const auto drafted = pass.Feed({&one, 1});
      all.insert(all.end(), drafted.begin(), drafted.end());
      engine.Truncate(length);
      const auto whole = engine.FeedSequences({&one, 1});
      of_model->insert(of_model->end(), whole.begin(), whole.end());
    }
    return all;
  }
};

TEST_F(GpuDraft, DraftsAsOnTheCpu) {
  for (const char* name : {"gqa_relu", "wide_heads"}) {
    SCOPED_TRACE(name);
    const auto draft = MakeDraft(Golden(name));
    std::vector<float> model_gpu;
    std::vector<float> model_cpu;
    const auto gpu = DraftedLogits(FastTier::kGpu, draft, Golden(name), &model_gpu);
    const auto cpu = DraftedLogits(FastTier::kCpu, draft, Golden(name), &model_cpu);
    // Activations are rounded to int8 on either.
    EXPECT_LT(MaxDifference(gpu, cpu), 0.05);
    EXPECT_LT(MaxDifference(model_gpu, model_cpu), 0.01);
    // And it is another thing than the model.
    EXPECT_GT(MaxDifference(gpu, model_gpu), 0.05);
  }
}

}  // namespace
}  // namespace thermocline
