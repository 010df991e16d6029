// Several sequences in one pass: each gets the tokens it gets alone, whatever the others do, and
// whatever pages they share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/evaluate.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::unique_ptr<Engine> OpenFor(int64_t n_sequences, const std::string& sparse = "dense",
                                const std::string& model = "gqa_relu") {
  EngineOptions options;
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + model + ".gguf";
  options.sparse = sparse;
  options.n_threads = 2;
  options.n_sequences = n_sequences;
  options.context_tokens = 96;
  return std::make_unique<Engine>(options);
}

std::vector<int32_t> PromptOf(int i, size_t length) {
  std::vector<int32_t> ids;
  while (ids.size() < length)
    ids.push_back(260 + (i * 37 + static_cast<int>(ids.size()) * 11) % 20);
  return ids;
}

std::vector<float> RowOf(std::span<const float> logits, size_t row, size_t width) {
  const auto part = logits.subspan(row * width, width);
  return {part.begin(), part.end()};
}

// Returns the logits of a sequence alone, after its prompt and after each of `tokens`. Each is fed
// in a pass as large as the one it is compared with, by copies of itself.
std::vector<std::vector<float>> Alone(Engine& engine, const std::vector<int32_t>& prompt,
                                      const std::vector<int32_t>& tokens) {
  std::vector<std::vector<float>> all;
  engine.Reset();
  const auto first = engine.Feed(prompt);
  all.emplace_back(first.begin(), first.end());
  for (const int32_t token : tokens) {
    const auto logits = engine.Feed({&token, 1});
    all.emplace_back(logits.begin(), logits.end());
  }
  return all;
}

double Furthest(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most;
}

// A pass of few rows and one of many sum the same products in another order, which can tip the
// rounding of a key or value to f16. That moves logits by up to 5.4e-3 (tests/golden/README.md).
constexpr double kOrderOfSums = 5e-3;

TEST(Sequences, EachGetsTheLogitsThatItGetsAlone) {
  for (const char* sparse : {"dense", "exact"}) {
    for (const size_t n : {2, 3, 8}) {
      const auto engine = OpenFor(static_cast<int64_t>(n), sparse);
      const auto width = static_cast<size_t>(engine->config().vocab_size);
      std::vector<std::vector<int32_t>> prompts, tokens;
      std::vector<std::vector<std::vector<float>>> alone;
      for (size_t i = 0; i < n; ++i) {
        prompts.push_back(PromptOf(static_cast<int>(i), 3 + 5 * i));
        tokens.push_back(PromptOf(static_cast<int>(i) + 100, 12));
        alone.push_back(Alone(*engine, prompts[i], tokens[i]));
      }
      engine->Reset();
      std::vector<int32_t> ids = {engine->main_sequence()};
      while (ids.size() < n) ids.push_back(engine->sequences().Add());
      std::vector<SequenceInput> inputs;
      for (size_t i = 0; i < n; ++i) inputs.push_back({ids[i], prompts[i]});
      for (size_t pass = 0; pass <= tokens[0].size(); ++pass) {
        const auto logits = engine->FeedSequences(inputs);
        for (size_t i = 0; i < n; ++i) {
          EXPECT_LE(Furthest(RowOf(logits, i, width), alone[i][pass]), kOrderOfSums)
              << sparse << ", sequence " << i << " of " << n << ", pass " << pass;
          if (pass < tokens[i].size()) inputs[i].ids = {&tokens[i][pass], 1};
        }
      }
    }
  }
}

// A pass of up to 8 rows, of several sequences or of one, gives each row the bits of a pass of one:
// a check of drafted tokens is plain decoding (docs/few-tokens.md).
TEST(Sequences, FewRowsHaveTheBitsOfEachAlone) {
  constexpr size_t kRows = 8;
  for (const char* sparse : {"dense", "exact"}) {
    const auto engine = OpenFor(kRows, sparse);
    const auto width = static_cast<size_t>(engine->config().vocab_size);
    std::vector<std::vector<int32_t>> prompts, tokens;
    std::vector<std::vector<std::vector<float>>> alone;
    for (size_t i = 0; i < kRows; ++i) {
      prompts.push_back(PromptOf(static_cast<int>(i), 3 + 5 * i));
      tokens.push_back(PromptOf(static_cast<int>(i) + 100, kRows));
      alone.push_back(Alone(*engine, prompts[i], tokens[i]));
    }
    engine->Reset();
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < kRows; ++i) {
      inputs.push_back({i == 0 ? engine->main_sequence() : engine->sequences().Add(), prompts[i]});
      engine->FeedSequences({&inputs.back(), 1});
    }
    for (size_t t = 0; t < kRows; ++t) {
      for (size_t i = 0; i < kRows; ++i) inputs[i].ids = {&tokens[i][t], 1};
      const auto logits = engine->FeedSequences(inputs);
      for (size_t i = 0; i < kRows; ++i) {
        EXPECT_EQ(RowOf(logits, i, width), alone[i][t + 1]) << sparse << ", sequence " << i;
      }
    }
    for (size_t n = 2; n <= kRows; ++n) {
      engine->Reset();
      engine->Feed(prompts.back());
      const auto logits = engine->Feed(std::span(tokens.back()).first(n));
      EXPECT_EQ(RowOf(logits, 0, width), alone.back()[n]) << sparse << ", row " << n;
    }
  }
}

// Neither the order of the sequences in a pass nor who else is there changes a bit.
TEST(Sequences, BitsDependOnNeitherTheirOrderNorTheOthers) {
  const auto engine = OpenFor(8, "exact");
  const auto width = static_cast<size_t>(engine->config().vocab_size);
  const auto run = [&](const std::vector<int>& which) {
    engine->Reset();
    std::vector<std::vector<int32_t>> prompts;
    std::vector<int32_t> ids;
    for (const int i : which) {
      prompts.push_back(PromptOf(i, 7));
      ids.push_back(engine->sequences().Add());
    }
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < ids.size(); ++i) inputs.push_back({ids[i], prompts[i]});
    engine->FeedSequences(inputs);
    std::vector<std::vector<float>> last;
    const int32_t token = 270;
    for (SequenceInput& input : inputs) input.ids = {&token, 1};
    const auto logits = engine->FeedSequences(inputs);
    for (size_t i = 0; i < ids.size(); ++i) {
      last.push_back(RowOf(logits, i, width));
      engine->sequences().Remove(ids[i]);
    }
    return last;
  };
  const auto all = run({0, 1, 2, 3, 4, 5});
  const auto turned = run({5, 4, 3, 2, 1, 0});
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(turned[5 - i], all[i]) << i;
  const auto others = run({9, 1, 8, 7, 4, 6});
  EXPECT_EQ(others[1], all[1]);
  EXPECT_EQ(others[4], all[4]);
}

TEST(Sequences, AForkContinuesAsTheOriginalWould) {
  const auto engine = OpenFor(3);
  const auto width = static_cast<size_t>(engine->config().vocab_size);
  const auto prompt = PromptOf(1, 45);  // ends inside a page
  engine->Feed(prompt);
  KvSequences& kv = engine->sequences();
  const int32_t fork = kv.Fork(engine->main_sequence());
  const std::vector<int32_t> left = PromptOf(2, 20), right = PromptOf(3, 20);
  const SequenceInput both[] = {{engine->main_sequence(), left}, {fork, right}};
  const auto logits = engine->FeedSequences(both);
  const auto after_left = RowOf(logits, 0, width), after_right = RowOf(logits, 1, width);
  kv.Remove(fork);
  for (const auto& [ids, expected] : {std::pair{left, after_left}, {right, after_right}}) {
    engine->Reset();
    engine->Feed(prompt);
    const auto found = engine->Feed(ids);
    EXPECT_LE(Furthest({found.begin(), found.end()}, expected), kOrderOfSums);
  }
  EXPECT_EQ(
      kv.pool().n_free() + static_cast<int64_t>(kv.table(engine->main_sequence()).pages.size()),
      kv.pool().n_pages());
}

TEST(Sequences, ARollbackForgetsWhatCameAfter) {
  const auto engine = OpenFor(1);
  const auto prompt = PromptOf(1, 40);
  const auto begin = std::span<const int32_t>(prompt).first(33);
  const auto rest = std::span<const int32_t>(prompt).subspan(33);
  engine->Feed(begin);
  engine->Feed(rest);
  const auto first = engine->Feed(PromptOf(2, 9));
  const std::vector<float> expected(first.begin(), first.end());
  engine->Truncate(33);
  engine->Feed(PromptOf(7, 20));
  engine->Truncate(33);
  engine->Feed(rest);
  const auto again = engine->Feed(PromptOf(2, 9));
  EXPECT_EQ(std::vector<float>(again.begin(), again.end()), expected);
}

TEST(Sequences, TooMuchIsAnErrorThatLeavesTheOthersAlone) {
  const auto engine = OpenFor(2);
  const int32_t second = engine->sequences().Add();
  engine->Feed(PromptOf(1, 90));
  const auto prompt = PromptOf(2, 10);
  const SequenceInput inputs[] = {{second, prompt}, {engine->main_sequence(), prompt}};
  EXPECT_THAT(MessageOf([&] { engine->FeedSequences(inputs); }), HasSubstr("the context is full"));
  EXPECT_EQ(engine->sequences().length(second), 0);
  EXPECT_EQ(engine->n_past(), 90);
  engine->FeedSequences({inputs, 1});
  EXPECT_EQ(engine->sequences().length(second), 10);
  const int32_t third = engine->sequences().Add();
  const auto long_prompt = PromptOf(3, 90);
  const SequenceInput more{third, long_prompt};
  EXPECT_THAT(MessageOf([&] {
                engine->FeedSequences({&more, 1});
              }),
              HasSubstr("the KV cache is full"));
}

// The fork's last page is shared, so that it gets one of its own; then the other sequence finds no
// page. What the fork holds must have come along.
TEST(Sequences, AForkKeepsItsTextWhereAnotherFindsNoPage) {
  const auto engine = OpenFor(2);  // six pages
  const auto prompt = PromptOf(1, 20), more = PromptOf(2, 3), wide = PromptOf(3, 70);
  engine->Feed(prompt);
  const auto expected_span = engine->Feed(more);
  const std::vector<float> expected(expected_span.begin(), expected_span.end());
  engine->Truncate(20);
  KvSequences& kv = engine->sequences();
  const int32_t fork = kv.Fork(engine->main_sequence());
  const int32_t other = kv.Add(), holder = kv.Add();
  const SequenceInput held{holder, wide};
  engine->FeedSequences({&held, 1});  // three pages of the five that are free
  const SequenceInput both[] = {{fork, more}, {other, wide}};
  EXPECT_THAT(MessageOf([&] { engine->FeedSequences(both); }), HasSubstr("the KV cache is full"));
  EXPECT_EQ(kv.length(fork), 20);
  kv.Remove(holder);
  const auto found = engine->FeedSequences({both, 1});
  EXPECT_EQ(std::vector<float>(found.begin(), found.end()), expected);
}

TEST(Sequences, NoneIsAnError) {
  EXPECT_THAT(MessageOf([] { OpenFor(0); }), HasSubstr("number of sequences"));
}

}  // namespace
}  // namespace thermocline
