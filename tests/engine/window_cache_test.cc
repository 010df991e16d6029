// Models whose layers see a window, over texts of many windows: a KV cache that lets go of what no
// row to come can see gives the bits of one that keeps all, whatever happens to the sequences.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/core/interrupt.h"
#include "runtime/engine/beam_search.h"
#include "runtime/engine/generate.h"
#include "runtime/import/import_model.h"
#include "tests/engine/twin_engines.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

constexpr uint32_t kWindow = 19;
constexpr int64_t kSlackTokens = kKvSlackPages * kKvPageTokens;

// The family's model of tests/golden, with a context of 1024 positions.
class WindowCache : public testing::TestWithParam<std::string> {
 protected:
  WindowCache() {
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    const std::string imported = dir_.file("imported.gguf");
    ImportModel(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/" + GetParam(),
                imported, options);
    WriteWindowed(imported, path_, kWindow);
  }
  void TearDown() override { ClearInterrupt(); }

  EngineOptions Options(int64_t batch_tokens, int64_t n_sequences = 1) const {
    EngineOptions options;
    options.model_path = path_;
    options.batch_tokens = batch_tokens;
    options.n_sequences = n_sequences;
    options.context_tokens = 1024;
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    return options;
  }
  static int64_t Pages(const Engine& engine) {
    int64_t n_pages = 0;
    for (const KvPageClass& pages : engine.model().kv_layout().classes) n_pages += pages.n_pages;
    return n_pages;
  }

  TempDir dir_;
  std::string path_ = dir_.file("windowed.gguf");
};

TEST_P(WindowCache, LongTextsHaveTheBitsOfACacheThatKeepsAll) {
  const std::vector<int32_t> text = TwinText(1, 800);
  const std::vector<std::vector<size_t>> cuts = {{512, 288},
                                                 {1, 5, 33, 200, 1, 1, 64, 3, 31, 32, 97}};
  for (const DType cache_type : {DType::kF16, DType::kF32}) {
    for (const std::vector<size_t>& cut : cuts) {
      EngineOptions options = Options(cache_type == DType::kF16 ? 512 : 40);
      options.cache_type = cache_type;
      TwinEngines twins(options);
      EXPECT_LT(Pages(twins.bounded), 2 * Pages(twins.whole));
      size_t at = 0;
      const auto feed = [&](size_t n) {
        twins.Feed(std::span(text).subspan(at, n));
        at += n;
      };
      for (const size_t n : cut) feed(n);
      while (at < 540) feed(1);
    }
  }
}

// Cut in other places, sums are in another order.
TEST_P(WindowCache, SmallBatchesGiveTheLogitsOfOne) {
  constexpr double kOrderOfSums = 1e-3;
  const std::vector<int32_t> text = TwinText(2, 700);
  EngineOptions options = Options(1024);
  options.cache_type = DType::kF32;
  options.keep_all_kv = true;
  Engine at_once(options);
  const auto span = at_once.Feed(text);
  const std::vector<float> expected(span.begin(), span.end());
  for (const int64_t batch : {1, 5, 77}) {
    options.batch_tokens = batch;
    options.keep_all_kv = false;
    Engine engine(options);
    const auto found = engine.Feed(text);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(found[i], expected[i], kOrderOfSums) << "batches of " << batch;
    }
  }
}

TEST_P(WindowCache, SequencesForkAndRollBackPastTheirWindows) {
  TwinEngines twins(Options(70, 4));
  const TwinEngines::Counts counts = twins.OperateAtRandom(250);
  EXPECT_GT(counts.n_passes, 100);
  EXPECT_GT(counts.n_forks, 5);
  EXPECT_GT(counts.n_kept, 3);
  EXPECT_GT(counts.n_lost, 3);
}

TEST_P(WindowCache, BeamsAreThoseOfACacheThatKeepsAll) {
  TwinEngines twins(Options(64, 4));
  const std::vector<int32_t> prompt = TwinText(4, 301);
  const BeamOptions options{.n_beams = 3, .max_tokens = 200};
  const std::vector<Beam> found = SearchBeams(twins.bounded, prompt, options);
  const std::vector<Beam> expected = SearchBeams(twins.whole, prompt, options);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].ids, expected[i].ids);
    EXPECT_EQ(found[i].score, expected[i].score);
  }
}

// Layer by layer, as predictors are built.
TEST_P(WindowCache, LayersRunOneByOneOverALongText) {
  TwinEngines twins(Options(50));
  if (!twins.bounded.executor().has_one_stream()) return;
  const std::vector<int32_t> text = TwinText(5, 650);
  const auto run = [&](Engine& engine) {
    const auto d = static_cast<size_t>(engine.config().d_model);
    std::vector<float> x(text.size() * d);
    const auto for_chunks = [&](const auto& body) {
      for (size_t at = 0; at < text.size(); at += 50) body(std::span(text).subspan(at, 50), at);
    };
    for_chunks([&](std::span<const int32_t> ids, size_t at) {
      engine.executor().Embed(ids, x.data() + at * d);
    });
    for (int64_t l = 0; l < engine.config().n_layers; ++l) {
      for_chunks([&](std::span<const int32_t> ids, size_t at) {
        engine.executor().RunLayers(x.data() + at * d, static_cast<int64_t>(ids.size()),
                                    static_cast<int64_t>(at), l, l + 1);
      });
    }
    return x;
  };
  EXPECT_EQ(run(twins.bounded), run(twins.whole));
}

TEST_P(WindowCache, AChatKeepsWhatTheWindowsShow) {
  const std::vector<int32_t> text = TwinText(6, 500);
  TwinEngines twins(Options(64));
  Generator bounded(twins.bounded, {.temperature = 0});
  Generator whole(twins.whole, {.temperature = 0});
  const auto turn = [](Generator& generator, const std::vector<int32_t>& ids) {
    std::string reply;
    const Generation made = generator.ContinueFrom(ids, 8, [&](std::string_view s) { reply += s; });
    return std::pair(made.kept_tokens, reply);
  };
  const auto begin = [&](size_t n) {
    return std::vector<int32_t>(text.begin(), text.begin() + static_cast<int64_t>(n));
  };
  EXPECT_EQ(turn(bounded, begin(400)), turn(whole, begin(400)));
  // Longer, and as far back as the slack.
  const auto longer = turn(bounded, begin(450));
  EXPECT_GE(longer.first, 400);
  EXPECT_EQ(longer, turn(whole, begin(450)));
  const int64_t back = twins.bounded.n_past() - kSlackTokens;
  std::vector<int32_t> ids = begin(static_cast<size_t>(back));
  ids.push_back(5);
  const auto within = turn(bounded, ids);
  EXPECT_EQ(within.first, back);
  EXPECT_EQ(within, turn(whole, ids));
  // Farther: all is fed again.
  ids = begin(100);
  ids.push_back(5);
  const auto [kept, reply] = turn(bounded, ids);
  EXPECT_EQ(kept, 0);
  EXPECT_EQ(turn(whole, ids).first, 100);
  Engine fresh(Options(64));
  Generator alone(fresh, {.temperature = 0});
  EXPECT_EQ(reply, turn(alone, ids).second);
}

// What was read before the interrupt has moved the windows on. The conversation stays, and is fed
// again with what comes next.
TEST_P(WindowCache, AnInterruptedTextIsTakenBack) {
  const std::vector<int32_t> first = TwinText(7, 60), second = TwinText(8, 500);
  EngineOptions options = Options(32);
  bool interrupts = false;
  options.progress = [&](const std::string&, uint64_t done, uint64_t) {
    if (interrupts && done > 400) RequestInterrupt();
  };
  Engine engine(options);
  Generator generator(engine, {.temperature = 0});
  std::string reply;
  const auto sink = [&](std::string_view s) { reply += s; };
  generator.Continue(first, 4, sink);
  const int64_t room = generator.room_tokens();
  const bool went_on = generator.can_go_on();
  interrupts = true;
  EXPECT_EQ(generator.Continue(second, 4, sink).stop, StopReason::kInterrupted);
  ClearInterrupt();
  interrupts = false;
  EXPECT_EQ(generator.room_tokens(), room);
  EXPECT_EQ(generator.can_go_on(), went_on);
  EXPECT_FALSE(generator.at_start());
  EXPECT_EQ(engine.n_past(), 0);
  reply.clear();
  const Generation made = generator.Continue(second, 4, sink);
  EXPECT_GE(made.prompt_tokens, 560) << "the conversation, too";
  EXPECT_EQ(room - generator.room_tokens(), 500 + made.generated_tokens);
}

TEST_P(WindowCache, WhatIsAllocatedIsWhatIsPlanned) {
  for (const int64_t n_sequences : {1, 3}) {
    const TwinEngines twins(Options(64, n_sequences));
    const MemoryPlan bounded = twins.bounded.model().Plan();
    const MemoryPlan whole = twins.whole.model().Plan();
    EXPECT_LT(bounded.kv_bytes(), whole.kv_bytes());
    EXPECT_EQ(whole.total_bytes(0) - bounded.total_bytes(0), whole.kv_bytes() - bounded.kv_bytes());
    EXPECT_EQ(twins.whole.allocated_bytes() - twins.bounded.allocated_bytes(),
              whole.kv_bytes() - bounded.kv_bytes());
  }
}

// All layers with a window; every second; two of three; those that others share; without rotations
// elsewhere.
INSTANTIATE_TEST_SUITE_P(Families, WindowCache,
                         testing::Values("mistral", "gemma2", "gemma3", "gemma3n", "cohere2"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace thermocline
