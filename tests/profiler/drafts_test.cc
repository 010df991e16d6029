// Drafts of the embedded model and of small ones: what everything hot comes to, what more bytes
// bring, and what a run makes of the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "profiler/drafts/draft_choice.h"
#include "profiler/drafts/draft_workshop.h"
#include "runtime/core/error.h"
#include "runtime/drafts/hot_draft.h"
#include "runtime/engine/generate.h"
#include "runtime/speculate/speculator.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::string DraftDemo(const char* name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/" + name;
}

StandInKind Kind(const char* name) { return *ParseStandIn(name); }

// A model with its texts and what they say of its neurons.
struct Shop {
  DraftWork work;
  DraftTexts calibration;
  DraftTexts heldout;
  ProfileStats stats;
  std::unique_ptr<DraftWorkshop> shop;

  Shop(const std::string& model_path, const std::string& text, const std::string& other,
       int64_t n_tokens, int64_t n_heldout, int64_t depth = 0) {
    work.engine.model_path = model_path;
    work.engine.n_threads = 2;
    work.max_depth = depth;
    OpenedModel model(work.engine);
    FitWindow(model.config(), &work);
    calibration =
        ReadDraftTexts(model, {.path = text, .max_tokens = n_tokens}, work.window_tokens, {});
    heldout =
        ReadDraftTexts(model, {.path = other, .max_tokens = n_heldout}, work.window_tokens, {});
    stats = CountForDrafts(work, calibration);
    shop = std::make_unique<DraftWorkshop>(work, stats, calibration);
  }

  MeasuredDraft Measured(const char* kind, double share, DraftFile* draft) {
    const auto recipe = MakeRecipe(shop->builder(), Kind(kind), share);
    CHECK(recipe.has_value());
    DraftMeter meter = shop->Meter(heldout);
    return MakeAndMeasure(shop->builder(), meter, Kind(kind), share, *recipe, draft);
  }
  double Acceptance(const char* kind, double share) {
    DraftFile draft;
    return Measured(kind, share, &draft).acceptance.sampled;
  }
};

class ClassicsDrafts : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shop = new Shop(DraftDemo("classics-9m-relu-q8_0.gguf"), DraftDemo("calibration.txt"),
                    DraftDemo("heldout.txt"), 2500, 750, 9);
  }
  static void TearDownTestSuite() { delete shop; }
  static Shop* shop;
};
Shop* ClassicsDrafts::shop = nullptr;

TEST_F(ClassicsDrafts, MoreBytesAreAcceptedMore) {
  double before = 0;
  for (const double share : {0.2, 0.5, 0.8}) {
    const double acceptance = shop->Acceptance("none", share);
    EXPECT_GT(acceptance, before + 0.02) << share;
    before = acceptance;
  }
  EXPECT_LT(before, 1);
  EXPECT_GT(shop->Acceptance("none", 1.0), 0.99);
}

TEST_F(ClassicsDrafts, StandInsBringMoreThanNothingAtEqualBytes) {
  const double none = shop->Acceptance("none", 0.5);
  EXPECT_GT(shop->Acceptance("2bit", 0.5), none + 0.02);
  EXPECT_GT(shop->Acceptance("3bit", 0.5), none + 0.02);
  EXPECT_GT(shop->Acceptance("mixed", 0.5), none + 0.02);
}

// A map that was fitted to what the draft feeds its layer, beside as many hot neurons.
TEST_F(ClassicsDrafts, AMapBringsMoreThanNothing) {
  DraftMeter meter = shop->shop->Meter(shop->heldout);
  const auto measured = [&](const char* kind) {
    DraftFile draft;
    const DraftRecipe recipe = MakeRecipeOfHot(shop->shop->builder(), Kind(kind), 0.25);
    return MakeAndMeasure(shop->shop->builder(), meter, Kind(kind), 0.25, recipe, &draft)
        .acceptance.sampled;
  };
  EXPECT_GT(measured("rank:64"), measured("none") + 0.05);
}

TEST_F(ClassicsDrafts, BytesAreWhatWasAskedFor) {
  const DraftBuilder& builder = shop->shop->builder();
  const auto all =
      static_cast<double>(builder.hot_bytes()) * static_cast<double>(builder.config().n_neurons());
  for (const char* kind : {"none", "rank:32", "2bit", "3bit", "mixed"}) {
    for (const double share : {0.35, 0.6, 0.9}) {
      const auto recipe = MakeRecipe(builder, Kind(kind), share);
      ASSERT_TRUE(recipe.has_value());
      const double found = static_cast<double>(RecipeBytes(builder, *recipe)) / all;
      EXPECT_LE(found, share + 1e-9) << kind;
      EXPECT_GT(found, share - 0.05) << kind;
    }
  }
  EXPECT_FALSE(MakeRecipe(builder, Kind("rank:128"), 0.01).has_value());
}

// Chains are accepted less and less far, and those of a 4-bit copy of this 8-bit model far.
TEST_F(ClassicsDrafts, ChainsByDepth) {
  DraftMeter meter = shop->shop->Meter(shop->heldout);
  const auto depth_of = [&](const char* kind) {
    const auto recipe = MakeRecipe(shop->shop->builder(), Kind(kind), 0.4);
    const DraftFile draft = shop->shop->builder().Build(*recipe);
    return meter.MeasureDepth(shop->shop->builder().Run(draft), 8, 16, 1);
  };
  const DraftDepth copy = depth_of("copy");
  EXPECT_GT(copy.n_chains, 20);
  for (size_t d = 1; d < 8; ++d) {
    EXPECT_LE(copy.greedy[d], copy.greedy[d - 1]);
    EXPECT_LE(copy.sampled[d], copy.sampled[d - 1]);
  }
  const DraftDepth none = depth_of("none");
  EXPECT_GT(DraftDepth::Length(copy.greedy, 8), 2 * DraftDepth::Length(none.greedy, 8));
  EXPECT_GT(DraftDepth::Length(copy.sampled, 8), 1.0);
  // A token is the same, be it a chain or a tree; of more a tree has more where a draft is unsure.
  EXPECT_NEAR(none.tree[0], none.greedy[0], 1e-9);
  EXPECT_GT(none.tree[7], DraftDepth::Length(none.greedy, 8));
  // And as good as none less where the draft is right nearly always, once that is learnt.
  EXPECT_GT(copy.tree[7], 0.75 * DraftDepth::Length(copy.greedy, 8));
}

// What a run opens: the file, with the placement that it brings.
TEST_F(ClassicsDrafts, AFileDraftsAsItWasMeasured) {
  TempDir dir;
  DraftFile draft;
  const MeasuredDraft measured = shop->Measured("mixed", 0.5, &draft);
  WriteDraft(dir.file("d"), draft);
  EngineOptions options = shop->work.engine;
  SetMeterOptions(shop->work.window_tokens, shop->work.n_forks, 9, &options);
  options.draft_path = dir.file("d");
  Engine engine(options);
  DraftPass pass(engine, *engine.model().draft());
  EXPECT_EQ(pass.own_bytes(), draft.own_bytes());
  DraftMeter meter(engine, shop->heldout, shop->work.n_forks);
  const DraftAcceptance again = meter.Measure(pass);
  EXPECT_NEAR(again.sampled, measured.acceptance.sampled, 0.003);
  EXPECT_NEAR(again.agreement, measured.acceptance.agreement, 0.02);
}

std::vector<float> LogitsOf(Engine& engine, DraftPass* draft, const std::vector<int32_t>& ids) {
  engine.Reset();
  engine.Feed(std::span(ids).first(ids.size() - 1));
  const SequenceInput last{engine.main_sequence(), std::span(ids).last(1)};
  const auto logits = draft == nullptr ? engine.FeedSequences({&last, 1}) : draft->Feed({&last, 1});
  return {logits.begin(), logits.end()};
}

// With every neuron hot the draft is the model, to the bit.
TEST(DraftPassTest, EverythingHotIsTheModel) {
  for (const std::string& path : {ReluModelPath(), SiluModelPath()}) {
    TempDir dir;
    WriteWholeFile(dir.file("text"), WordText(600));
    Shop shop(path, dir.file("text"), dir.file("text"), 1000, 500);
    DraftFile draft;
    EXPECT_GT(shop.Measured("none", 1.0, &draft).acceptance.sampled, 0.9999);
    EngineOptions options = shop.work.engine;
    options.draft = std::make_shared<const DraftFile>(draft);
    Engine engine(options);
    DraftPass pass(engine, draft);
    const std::vector<int32_t> ids = shop.heldout.front();
    EXPECT_EQ(LogitsOf(engine, nullptr, ids), LogitsOf(engine, &pass, ids));
  }
}

// The hot neurons alone, on two tiers of which the draft runs the first.
TEST(DraftPassTest, RunsTheFastTierAlone) {
  TempDir dir;
  WriteWholeFile(dir.file("text"), WordText(600));
  Shop shop(ReluModelPath(), dir.file("text"), dir.file("text"), 1000, 500);
  DraftFile draft;
  shop.Measured("bias", 0.5, &draft);
  WriteDraft(dir.file("draft"), draft);
  Placement two = PlacementOfDraft(draft, /*on_one_tier=*/false);
  WritePlacement(dir.file("placement"), two);
  EngineOptions one_tier = shop.work.engine;
  one_tier.draft_path = dir.file("draft");
  EngineOptions two_tiers = one_tier;
  two_tiers.placement_path = dir.file("placement");
  const std::vector<int32_t> ids = shop.heldout.front();
  Engine one(one_tier);
  Engine parted(two_tiers);
  EXPECT_TRUE(parted.model().has_cold());
  DraftPass of_one(one, *one.model().draft());
  DraftPass of_parted(parted, *parted.model().draft());
  const std::vector<float> a = LogitsOf(one, &of_one, ids);
  const std::vector<float> b = LogitsOf(parted, &of_parted, ids);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4);
  // The model itself says something else.
  const std::vector<float> whole = LogitsOf(parted, nullptr, ids);
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(whole[i]) - b[i]));
  }
  EXPECT_GT(most, 1e-3);
  // A placement with other neurons is refused.
  std::ranges::reverse(two.layers[1].neuron_order);
  WritePlacement(dir.file("placement"), two);
  Engine other(two_tiers);
  EXPECT_THAT(MessageOf([&] { DraftPass(other, *other.model().draft()); }), HasSubstr("layer 1"));
}

std::string TextOf(Engine& engine, Speculator* speculator, Generation* generation) {
  Generator generator(engine, {.temperature = 0});
  if (speculator != nullptr) generator.set_speculator(speculator, false);
  std::string text;
  *generation = generator.Continue(engine.tokenizer().Encode("The old house stood"), 100,
                                   [&](std::string_view piece) { text += piece; });
  return text;
}

// The text is the whole model's, in fewer passes; and the cache is as without drafts, although they
// wrote into it.
TEST_F(ClassicsDrafts, HotNeuronsDraftAndTheModelVerifies) {
  TempDir dir;
  DraftFile draft;
  shop->Measured("3bit", 0.5, &draft);
  WriteDraft(dir.file("d"), draft);
  WritePlacement(dir.file("p"), PlacementOfDraft(draft, /*on_one_tier=*/false));
  for (const bool two_tiers : {false, true}) {
    EngineOptions options = shop->work.engine;
    options.draft_path = dir.file("d");
    options.drafted_rows = 4;
    if (two_tiers) options.placement_path = dir.file("p");
    Engine engine(options);
    HotDraft hot(engine);
    Speculator speculator(hot, {.max_tokens = 4, .follows_times = false},
                          engine.config().vocab_size);
    Generation plain;
    Generation fast;
    const std::string expected = TextOf(engine, nullptr, &plain);
    const int64_t n_past = engine.n_past();
    const int64_t n_free = engine.sequences().pool().n_free();
    EXPECT_EQ(TextOf(engine, &speculator, &fast), expected);
    EXPECT_EQ(engine.n_past(), n_past);
    EXPECT_EQ(engine.sequences().pool().n_free(), n_free);
    EXPECT_EQ(speculator.stats().failure, "");
    // Of four drafted tokens most are accepted.
    EXPECT_LT(fast.decode_passes * 3, plain.decode_passes);
  }
}

TEST(DraftPassTest, NamesOfStandIns) {
  for (const char* name : {"none", "bias", "rank:96", "2bit", "3bit", "4bit", "mixed", "copy"}) {
    ASSERT_TRUE(ParseStandIn(name).has_value()) << name;
    EXPECT_EQ(ParseStandIn(name)->Name(), name);
  }
  for (const char* name : {"", "rank:", "rank:0", "rank:-1", "rank:9x", "5bit", "None"}) {
    EXPECT_FALSE(ParseStandIn(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace thermocline
