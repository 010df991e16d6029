// Tokens of which several follow the same one, in one pass: each says what it says where its path
// is the text.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/import/import_model.h"
#include "tests/engine/family_models.h"
#include "tests/engine/fed_trees.h"
#include "tests/engine/twin_engines.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

constexpr int64_t kTreeRows = 40;
// Passes of more than kFewTokens rows sum in another order (tests/golden/README.md).
constexpr double kOtherOrder = 5e-3;

EngineOptions TreeOptions(const std::string& path, DType cache_type) {
  EngineOptions options;
  options.model_path = path;
  options.cache_type = cache_type;
  options.fast_tier = FastTier::kCpu;
  options.n_threads = 2;
  options.context_tokens = 128;
  options.batch_tokens = 64;
  options.n_sequences = 2;
  options.drafted_rows = kTreeRows;
  return options;
}

// Trees of a text of so many tokens: within a page, over its end, and from one to the next.
void ExpectTrees(Engine& engine, size_t n_text, size_t n_tree, size_t per_pass, double tolerance) {
  FedTrees fed(engine, tolerance);
  engine.Reset();
  engine.Feed(TwinText(3, n_text));
  for (int seed = 0; seed < 2; ++seed) {
    SCOPED_TRACE(testing::Message()
                 << n_text << " tokens, a tree of " << n_tree << ", seed " << seed);
    const TokenTree tree = RandomTree(seed, n_tree);
    fed.ExpectPaths(tree, per_pass, static_cast<int32_t>(n_tree) - 1 - seed);
    if (testing::Test::HasFatalFailure()) return;
  }
}

class TreePassOfFamily : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Families, TreePassOfFamily, testing::ValuesIn(FamilyNames()),
                         [](const auto& each) { return each.param; });

// Rotary, learned and relative positions, windows, shared keys, encoders.
TEST_P(TreePassOfFamily, HasTheBitsOfEachPathAlone) {
  TempDir dir;
  const std::string path = dir.file("model.gguf");
  ImportOptions import;
  import.rule = ParseTypeRule("F32");
  ImportModel(FamiliesFolder() + GetParam(), path, import);
  EngineOptions options = TreeOptions(path, DType::kF32);
  options.context_tokens = 64;
  Engine engine(options);
  if (engine.config().has_encoder()) engine.Encode(engine.main_sequence(), TwinText(1, 9));
  ExpectTrees(engine, 29, kFewTokens, kFewTokens, 0);
}

TEST(TreePass, HasTheBitsOfEachPathAloneWithEveryTypeOfCache) {
  for (const DType cache_type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    for (const char* model : {"gqa_relu", "wide_heads"}) {
      if (cache_type == DType::kQ8_0 && model == std::string("gqa_relu")) continue;  // short heads
      SCOPED_TRACE(testing::Message() << model << ", " << DTypeName(cache_type));
      Engine engine(TreeOptions(GoldenModel(model), cache_type));
      for (const size_t n_text : {5, 27, 60}) ExpectTrees(engine, n_text, 7, 7, 0);
    }
  }
}

// As a model drafts: some tokens of a tree behind others that it has read before.
TEST(TreePass, ATreeMayBeFedInParts) {
  Engine engine(TreeOptions(GoldenModel("gqa_relu"), DType::kF16));
  for (const size_t per_pass : {1, 3}) ExpectTrees(engine, 29, 20, per_pass, 0);
}

// And with rows enough to be a panel of a prompt's.
TEST(TreePass, LargeTreesDifferByRoundingOnly) {
  Engine engine(TreeOptions(GoldenModel("gqa_relu"), DType::kF32));
  ExpectTrees(engine, 20, kTreeRows, kTreeRows, kOtherOrder);
  FedTrees fed(engine, kOtherOrder);
  TokenTree tree = RandomTree(5, 30);
  for (int32_t i = 0; i < 24; ++i) tree.parents[static_cast<size_t>(i)] = i - 1;
  fed.ExpectPaths(tree, 30, 29);
}

// A text of several chunks of positions, with windows whose pages are given back.
TEST(TreePass, WindowsLetGoOfWhatNoRowSees) {
  TempDir dir;
  const std::string imported = dir.file("imported.gguf");
  const std::string windowed = dir.file("windowed.gguf");
  ImportOptions import;
  import.rule = ParseTypeRule("F32");
  ImportModel(FamiliesFolder() + "gemma3", imported, import);
  WriteWindowed(imported, windowed, 19);
  EngineOptions options = TreeOptions(windowed, DType::kF16);
  options.context_tokens = 1024;
  Engine engine(options);
  for (const size_t n_text : {190, 700}) ExpectTrees(engine, n_text, 8, 8, 0);
}

// Two texts with a tree each, one of which shares its beginning's pages with the other.
TEST(TreePass, SeveralTextsHaveTheirOwnTrees) {
  EngineOptions options = TreeOptions(GoldenModel("gqa_relu"), DType::kF16);
  options.n_sequences = 3;
  Engine engine(options);
  KvSequences& kv = engine.sequences();
  engine.Feed(TwinText(3, 70));
  const std::vector<int32_t> texts = {engine.main_sequence(), kv.Fork(engine.main_sequence())};
  const int32_t other = 9;
  const SequenceInput one{.sequence = texts[1], .ids = {&other, 1}};
  engine.FeedSequences({&one, 1});
  const std::vector<TokenTree> trees = {RandomTree(1, 4), RandomTree(2, 4)};
  std::vector<SequenceInput> inputs;
  for (size_t i = 0; i < 2; ++i) {
    inputs.push_back({.sequence = texts[i],
                      .ids = trees[i].ids,
                      .all_logits = true,
                      .tree_begin = kv.length(texts[i]),
                      .parents = trees[i].parents});
  }
  const auto span = engine.FeedSequences(inputs);
  const std::vector<float> together(span.begin(), span.end());
  for (const int32_t text : texts) kv.Truncate(text, kv.length(text) - 4);
  for (size_t i = 0; i < 2; ++i) {
    const auto alone = engine.FeedSequences({&inputs[i], 1});
    for (size_t j = 0; j < alone.size(); ++j) ASSERT_EQ(alone[j], together[i * alone.size() + j]);
  }
}

}  // namespace
}  // namespace thermocline
