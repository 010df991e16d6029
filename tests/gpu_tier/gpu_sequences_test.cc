// Several sequences in one pass with a GPU as the fast tier: each gets what it gets alone, whatever
// the others do and wherever its pages lie.
#include <gmock/gmock.h>

#include <map>
#include <random>

#include "gpu_kernels/tokens/attention.h"
#include "tests/engine/twin_engines.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

// What another order of sums moves logits by where it tips the rounding of a key or value to f16
// (tests/golden/README.md), and on the way to the CPU's kernels.
constexpr double kOrderOfSums = 5e-3;

class GpuSequences : public GpuTier {
 protected:
  std::unique_ptr<Engine> OpenFor(int64_t n_sequences, const std::string& sparse, double hot_share,
                                  FastTier tier = FastTier::kGpu) {
    EngineOptions options = Options({.model = Golden("gqa_relu"),
                                     .sparse = sparse,
                                     .tier = tier,
                                     .hot_share = hot_share,
                                     .attends_away = true});
    options.n_sequences = n_sequences;
    options.context_tokens = 96;
    options.batch_tokens = 128;
    return std::make_unique<Engine>(options);
  }
  static std::vector<int32_t> TextOf(int i, size_t length) {
    std::vector<int32_t> ids;
    while (ids.size() < length)
      ids.push_back(260 + (i * 37 + static_cast<int>(ids.size()) * 11) % 20);
    return ids;
  }
  static std::vector<float> RowOf(std::span<const float> logits, size_t row, size_t width) {
    const auto part = logits.subspan(row * width, width);
    return {part.begin(), part.end()};
  }
  static std::vector<float> FeedOne(Engine& engine, int32_t sequence,
                                    const std::vector<int32_t>& ids) {
    const SequenceInput input{sequence, ids};
    const auto logits = engine.FeedSequences({&input, 1});
    return {logits.begin(), logits.end()};
  }
};

// 3 and 8 sequences decode in a graph that is kept, 18 as a batch.
TEST_F(GpuSequences, EachGetsTheLogitsThatItGetsAlone) {
  for (const auto& [sparse, split] :
       std::vector<std::pair<std::string, double>>{{"dense", -1}, {"exact", 0.5}}) {
    for (const size_t n : {3, 8, 18}) {
      if (sparse == "dense" && n != 3) continue;
      const auto engine = OpenFor(static_cast<int64_t>(n), sparse, split);
      const auto width = static_cast<size_t>(engine->config().vocab_size);
      const std::vector<int32_t> tokens = TextOf(50, 2);
      std::vector<std::vector<int32_t>> prompts;
      std::vector<std::vector<std::vector<float>>> alone(n);
      for (size_t i = 0; i < n; ++i) {
        prompts.push_back(TextOf(static_cast<int>(i), 1 + 9 * i % 60));
        engine->Reset();
        alone[i].push_back(FeedOne(*engine, engine->main_sequence(), prompts[i]));
        for (const int32_t token : tokens) {
          alone[i].push_back(FeedOne(*engine, engine->main_sequence(), {token}));
        }
      }
      engine->Reset();
      std::vector<int32_t> ids = {engine->main_sequence()};
      while (ids.size() < n) ids.push_back(engine->sequences().Add());
      // Prompts three at a time, so that a batch has segments of several lengths.
      for (size_t begin = 0; begin < n; begin += 3) {
        std::vector<SequenceInput> inputs;
        for (size_t i = begin; i < std::min(n, begin + 3); ++i) {
          inputs.push_back({ids[i], prompts[i]});
        }
        const auto logits = engine->FeedSequences(inputs);
        for (size_t i = 0; i < inputs.size(); ++i) {
          EXPECT_LE(MaxDifference(RowOf(logits, i, width), alone[begin + i][0]), kOrderOfSums)
              << sparse << ", prompt " << begin + i << " of " << n;
        }
      }
      for (size_t pass = 0; pass < tokens.size(); ++pass) {
        std::vector<SequenceInput> inputs;
        for (const int32_t id : ids) inputs.push_back({id, {&tokens[pass], 1}});
        const auto logits = engine->FeedSequences(inputs);
        for (size_t i = 0; i < n; ++i) {
          EXPECT_LE(MaxDifference(RowOf(logits, i, width), alone[i][pass + 1]), kOrderOfSums)
              << sparse << ", sequence " << i << " of " << n << ", pass " << pass;
        }
      }
    }
  }
}

// Passes of as many rows, once of one sequence, once of two, once of four: each has its own graph,
// and all say the same.
TEST_F(GpuSequences, AGraphServesOnlyPassesOfItsShape) {
  const auto engine = OpenFor(4, "exact", 0.5);
  const auto width = static_cast<size_t>(engine->config().vocab_size);
  KvSequences& kv = engine->sequences();
  const std::vector<std::vector<size_t>> shapes = {{4}, {1, 3}, {1, 1, 1, 1}, {2, 2}};
  for (int round = 0; round < 2; ++round) {
    for (const std::vector<size_t>& shape : shapes) {
      std::vector<int32_t> ids;
      std::vector<std::vector<int32_t>> texts;
      std::vector<SequenceInput> inputs;
      for (size_t i = 0; i < shape.size(); ++i) {
        ids.push_back(kv.Add());
        FeedOne(*engine, ids.back(), TextOf(static_cast<int>(i), 5 + 30 * i));
        texts.push_back(TextOf(20 + static_cast<int>(i), shape[i]));
      }
      for (size_t i = 0; i < shape.size(); ++i) inputs.push_back({ids[i], texts[i]});
      const auto span = engine->FeedSequences(inputs);
      const std::vector<float> together(span.begin(), span.end());
      for (size_t i = 0; i < shape.size(); ++i) {
        kv.Truncate(ids[i], kv.length(ids[i]) - static_cast<int64_t>(shape[i]));
        EXPECT_LE(MaxDifference(FeedOne(*engine, ids[i], texts[i]), RowOf(together, i, width)),
                  kOrderOfSums)
            << "sequence " << i << " of " << shape.size();
      }
      for (const int32_t id : ids) kv.Remove(id);
    }
  }
}

// Sequences come, fork, are cut and go at random, so that pages are shared, copied and scattered:
// after every pass the GPU's logits are the CPU's.
TEST_F(GpuSequences, WhateverHappensToTheirPagesTheLogitsAreTheCpus) {
  constexpr int64_t kSequences = 6;
  const auto gpu = OpenFor(kSequences, "exact", 0.5);
  const auto cpu = OpenFor(kSequences, "exact", 0.5, FastTier::kCpu);
  const auto width = static_cast<size_t>(gpu->config().vocab_size);
  std::vector<int32_t> ids = {gpu->main_sequence()};
  ASSERT_EQ(cpu->main_sequence(), ids[0]);
  std::mt19937 random(3);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const auto both = [&](const auto& change) {
    change(gpu->sequences());
    change(cpu->sequences());
  };
  int n_forks = 0;
  int n_passes = 0;
  for (int turn = 0; turn < 90; ++turn) {
    const size_t which = below(ids.size());
    const int32_t id = ids[which];
    const int64_t length = gpu->sequences().length(id);
    const size_t action = below(8);
    if (action == 0 && ids.size() < kSequences) {
      const bool forks = length > 0 && below(3) > 0;
      n_forks += forks ? 1 : 0;
      int32_t added = 0;
      both([&](KvSequences& kv) { added = forks ? kv.Fork(id) : kv.Add(); });
      ids.push_back(added);
    } else if (action == 1 && which > 0) {
      both([&](KvSequences& kv) { kv.Remove(id); });
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(which));
    } else if (action == 2) {
      const auto kept = static_cast<int64_t>(below(static_cast<size_t>(length) + 1));
      both([&](KvSequences& kv) { kv.Truncate(id, kept); });
    } else {
      std::vector<std::vector<int32_t>> texts;
      std::vector<SequenceInput> inputs;
      for (const int32_t sequence : ids) {
        const int64_t room = 96 - gpu->sequences().length(sequence);
        const auto n = static_cast<size_t>(std::min<int64_t>(room, below(3) == 0 ? 9 : 1));
        if (n == 0 || below(4) == 0) continue;
        texts.push_back(TextOf(turn + sequence, n));
        inputs.push_back({sequence, {}});
      }
      if (inputs.empty()) continue;
      for (size_t i = 0; i < inputs.size(); ++i) inputs[i].ids = texts[i];
      const auto found = gpu->FeedSequences(inputs);
      const auto expected = cpu->FeedSequences(inputs);
      ++n_passes;
      for (size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_LE(MaxDifference(RowOf(found, i, width), RowOf(expected, i, width)), kOrderOfSums)
            << "turn " << turn << ", sequence " << inputs[i].sequence;
      }
    }
    ASSERT_EQ(gpu->sequences().pool().n_free(), cpu->sequences().pool().n_free());
  }
  EXPECT_GT(n_forks, 3);
  EXPECT_GT(n_passes, 30);
}

// Eight texts that begin with two chunks of positions in common, in a graph that is kept: the CPU's
// logits, while the layer that sees all reads the chunks once. The other layer sees a window.
TEST_F(GpuSequences, ChunksThatTextsShareAreReadOnce) {
  const std::string model = dir_.file("windowed.gguf");
  WriteWindowed(Golden("gqa_relu"), model, 20, /*pattern=*/2);
  std::vector<std::vector<float>> logits;
  for (const FastTier tier : {FastTier::kGpu, FastTier::kCpu}) {
    EngineOptions options =
        Options({.model = model, .sparse = "exact", .tier = tier, .hot_share = 0.5});
    options.context_tokens = 320;
    options.batch_tokens = 64;
    options.n_sequences = 8;
    Engine engine(options);
    KvSequences& kv = engine.sequences();
    std::vector<int32_t> ids = {engine.main_sequence()};
    engine.Feed(TextOf(1, 270));
    while (ids.size() < 8) ids.push_back(kv.Fork(ids[0]));
    Executor::KvBytes before;
    for (size_t pass = 0; pass < 3; ++pass) {
      std::vector<std::vector<int32_t>> texts;
      std::vector<SequenceInput> inputs;
      for (size_t i = 0; i < ids.size(); ++i) {
        texts.push_back(TextOf(static_cast<int>(20 + 8 * pass + i), 1));
      }
      for (size_t i = 0; i < ids.size(); ++i) inputs.push_back({ids[i], texts[i]});
      before = engine.executor().kv_bytes();
      const auto found = engine.FeedSequences(inputs);
      logits.emplace_back(found.begin(), found.end());
    }
    const Executor::KvBytes after = engine.executor().kv_bytes();
    const int64_t head_bytes = 2 * engine.config().n_kv_heads * engine.config().head_dim * 2;
    const int64_t n_all = engine.model().kv_layout().n_layers(0);
    const int64_t n_windowed = engine.model().kv_layout().n_layers(1);
    const int64_t unshared = 8 * (n_all * 273 + n_windowed * 20);
    EXPECT_EQ(after.unshared - before.unshared, unshared * head_bytes);
    if (tier == FastTier::kGpu) {
      EXPECT_EQ(after.read - before.read, (unshared - n_all * 7 * 2 * kKvChunkTokens) * head_bytes);
    }
  }
  for (size_t pass = 0; pass < 3; ++pass) {
    EXPECT_LE(MaxDifference(logits[pass], logits[3 + pass]), kOrderOfSums) << "pass " << pass;
  }
}

// A layer that sees a window and one that sees all, over texts of many windows: in batches, in
// graphs that are kept, and in sequences that fork and are cut.
TEST_F(GpuSequences, PagesBehindAWindowAreGivenBackAndTheBitsStay) {
  const std::string model = dir_.file("windowed.gguf");
  WriteWindowed(Golden("gqa_relu"), model, 20, /*pattern=*/2);
  EngineOptions options = Options({.model = model, .sparse = "exact", .hot_share = 0.5});
  options.context_tokens = 500;
  options.batch_tokens = 64;
  options.n_sequences = 3;
  TwinEngines twins(options);
  ASSERT_EQ(twins.bounded.model().kv_layout().classes.size(), 2U);
  EXPECT_LT(twins.bounded.model().Plan().kv_bytes(), twins.whole.model().Plan().kv_bytes());
  EXPECT_EQ(
      twins.whole.allocated_bytes() - twins.bounded.allocated_bytes(),
      twins.whole.model().Plan().total_bytes(0) - twins.bounded.model().Plan().total_bytes(0));
  twins.Feed(TwinText(1, 250));
  const TwinEngines::Counts counts = twins.OperateAtRandom(40);
  EXPECT_GT(counts.n_passes, 15);
  EXPECT_GT(counts.n_forks, 1);
  EXPECT_GT(counts.n_kept, 0);

  options.fast_tier = FastTier::kCpu;
  Engine cpu(options);
  twins.bounded.Reset();
  for (const size_t n : {64, 64, 40, 16, 5, 1, 1, 64, 1}) {
    const std::vector<int32_t> text = TwinText(static_cast<int>(cpu.n_past()), n);
    const auto found = twins.bounded.Feed(text);
    const auto expected = cpu.Feed(text);
    EXPECT_LE(MaxDifference({found.begin(), found.end()}, {expected.begin(), expected.end()}),
              kOrderOfSums)
        << "at " << cpu.n_past();
  }
}

}  // namespace
}  // namespace thermocline
