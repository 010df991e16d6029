// The generation loop with drafts: the same text as without, and a KV cache that is what it would
// be without, whatever the drafts were.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/drafts/auto_draft.h"
#include "runtime/drafts/model_draft.h"
#include "runtime/engine/generate.h"
#include "runtime/speculate/extended_draft.h"
#include "runtime/speculate/ngram_draft.h"
#include "tests/speculate/toy_text.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

constexpr int64_t kDrafted = 8;

EngineOptions GoldenOptions(const char* model = "gqa_relu", int64_t context_tokens = 128) {
  EngineOptions options;
  options.model_path = GoldenModel(model);
  options.context_tokens = context_tokens;
  options.batch_tokens = 32;
  options.n_threads = 1;
  options.drafted_rows = kDrafted;
  return options;
}

const std::vector<int32_t> kPrompt = {1, 40, 41, 42, 9, 40, 41, 42, 17, 40};
const auto kNowhere = [](std::string_view) {};

// The ids of a reply, read back from what the cache holds by what the next pass says.
struct Written {
  Generation generation;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<float> next;  // the logits behind a token more
  int64_t n_past = 0;
  int64_t n_free = 0;
};

Written Write(Engine& engine, const SamplerOptions& sampling, int64_t n, Speculator* speculator,
              bool draws = false) {
  Generator generator(engine, sampling);
  if (speculator != nullptr) generator.set_speculator(speculator, draws);
  Written written;
  written.generation =
      generator.Continue(kPrompt, n, [&](std::string_view piece) { written.text += piece; });
  written.ids = generator.Ids();
  written.n_past = engine.n_past();
  written.n_free = engine.sequences().pool().n_free();
  const std::vector<int32_t> more = {50};
  if (engine.n_past() < engine.context_tokens()) {
    const auto logits = engine.Feed(more);
    written.next.assign(logits.begin(), logits.end());
  }
  return written;
}

// Logits behind passes of other sizes differ by rounding.
void ExpectSame(const Written& a, const Written& b, const std::string& what) {
  SCOPED_TRACE(what);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.n_past, b.n_past);
  EXPECT_EQ(a.n_free, b.n_free);
  EXPECT_EQ(a.generation.stop, b.generation.stop);
  EXPECT_EQ(a.generation.generated_tokens, b.generation.generated_tokens);
  ASSERT_EQ(a.next.size(), b.next.size());
  for (size_t i = 0; i < a.next.size(); ++i) ASSERT_NEAR(a.next[i], b.next[i], 2e-3);
}

std::vector<std::pair<std::string, FunctionDraft::Propose>> Drafts() {
  const auto chain = [](auto add) {
    return [add](const DraftRequest& request) {
      for (int32_t at = DraftTree::kText; request.tree->WantsMore(at);) at = add(request, at);
    };
  };
  return {
      {"wrong", chain([](const DraftRequest& r, int32_t at) { return r.tree->Add(at, 7, 1); })},
      {"out of range",
       chain([](const DraftRequest& r, int32_t at) { return r.tree->Add(at, 1 << 20, 1); })},
      {"nan", chain([](const DraftRequest& r, int32_t at) {
         const std::vector<float> logits(4, std::numeric_limits<float>::quiet_NaN());
         return r.tree->AddFrom(at, {.all = logits});
       })},
      {"empty", [](const DraftRequest&) {}},
      {"throws", [](const DraftRequest&) { throw std::runtime_error("gone"); }},
  };
}

SamplerOptions SeededSampling(float temperature) {
  SamplerOptions sampling;
  sampling.temperature = temperature;
  sampling.seed = 4;
  sampling.repeat_penalty = 1.1F;
  return sampling;
}

TEST(Speculate, WritesTheSameTextWhateverIsDrafted) {
  Engine engine(GoldenOptions());
  for (const float temperature : {0.0F, 0.9F}) {
    const SamplerOptions sampling = SeededSampling(temperature);
    const Written plain = Write(engine, sampling, 60, nullptr);
    for (const auto& [name, propose] : Drafts()) {
      FunctionDraft source(propose);
      Speculator speculator(source, {.max_tokens = kDrafted, .follows_times = false},
                            engine.config().vocab_size);
      ExpectSame(Write(engine, sampling, 60, &speculator), plain, name);
      ExtendedDraft extended(&source);
      Speculator of_extended(extended, {.max_tokens = kDrafted, .follows_times = false},
                             engine.config().vocab_size);
      ExpectSame(Write(engine, sampling, 60, &of_extended), plain, name + ", extended");
    }
    NgramDraft ngram;
    Speculator speculator(ngram, {.max_tokens = kDrafted, .follows_times = false},
                          engine.config().vocab_size);
    const Written found = Write(engine, sampling, 60, &speculator);
    ExpectSame(found, plain, "ngram");
  }
}

// The same model drafts for itself: all is accepted, and a pass writes many tokens.
TEST(Speculate, ADraftThatIsAlwaysRightSavesPasses) {
  Engine engine(GoldenOptions());
  ModelDraft draft(std::make_unique<Engine>(GoldenOptions()));
  SamplerOptions sampling{.temperature = 0};
  const Written plain = Write(engine, sampling, 64, nullptr);
  Speculator speculator(draft, {.max_tokens = 7, .follows_times = false},
                        engine.config().vocab_size);
  const Written fast = Write(engine, sampling, 64, &speculator);
  ExpectSame(fast, plain, "itself");
  EXPECT_EQ(plain.generation.decode_passes, 63);
  EXPECT_EQ(fast.generation.decode_passes, 8) << "63 tokens by 8";
  EXPECT_EQ(fast.generation.decoded_tokens, 63);
  EXPECT_EQ(speculator.stats().n_accepted, speculator.stats().n_drafted);
}

// Drawn by the same model from the same distribution, nearly every token is accepted.
TEST(Speculate, DrawnTokensOfTheSameModelAreAccepted) {
  Engine engine(GoldenOptions());
  ModelDraft draft(std::make_unique<Engine>(GoldenOptions()));
  Speculator speculator(draft, {.max_tokens = 4, .follows_times = false},
                        engine.config().vocab_size);
  SamplerOptions sampling{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0};
  for (int seed = 1; seed < 6; ++seed) {
    sampling.seed = static_cast<uint64_t>(seed);
    Write(engine, sampling, 60, &speculator, true);
  }
  const SpeculateStats& stats = speculator.stats();
  EXPECT_GT(stats.n_accepted * 100, stats.n_drafted * 98);
}

// ---- trees ----

constexpr int64_t kTreeTokens = 7;  // with the text's own as many rows as have each one's bits

SpeculateOptions TreeOptions(int64_t width) {
  return {.max_tokens = kTreeTokens, .max_children = width, .follows_times = false};
}

// What is right stands beside what is not, so that what stays must be moved; `right`: the text.
FunctionDraft::Propose RightBesideWrong(const std::vector<int32_t>* right) {
  return [right](const DraftRequest& request) {
    DraftTree& tree = *request.tree;
    int32_t at = DraftTree::kText;
    for (size_t i = request.ids.size(); i < right->size() && tree.WantsMore(at); ++i) {
      const int32_t wrong = tree.Add(at, (*right)[i] == 7 ? 8 : 7, 0.5);
      if (i % 3 == 0 && tree.WantsMore(wrong)) tree.Add(wrong, 9, 0.9);
      at = i % 5 == 4 ? DraftTree::kNothing : tree.Add(at, (*right)[i], 0.2);
    }
  };
}

// Greedy, or of a seed: text, cache and what comes next have the bits of plain decoding.
TEST(Speculate, TreesWriteTheSameTextWhateverIsInThem) {
  for (const char* model : {"gqa_relu", "wide_heads", "mqa_relu_sqr"}) {
    Engine engine(GoldenOptions(model));
    for (const float temperature : {0.0F, 0.9F}) {
      const SamplerOptions sampling = SeededSampling(temperature);
      const Written plain = Write(engine, sampling, 60, nullptr);
      auto drafts = Drafts();
      drafts.emplace_back("right beside wrong", RightBesideWrong(&plain.ids));
      drafts.emplace_back("wide and wrong", [](const DraftRequest& r) {
        const std::vector<float> nans(300, std::numeric_limits<float>::quiet_NaN());
        r.tree->Offer(DraftTree::kText, {.all = nans});
        for (int32_t at = DraftTree::kText; r.tree->WantsMore(DraftTree::kText); ++at) {
          r.tree->Add(DraftTree::kText, 10 + at, 1e9);
          r.tree->Add(static_cast<int32_t>(r.tree->nodes().size()) - 1, 1 << 30, 1);
        }
      });
      for (const auto& [name, propose] : drafts) {
        FunctionDraft source(propose);
        Speculator speculator(source, TreeOptions(3), engine.config().vocab_size);
        const Written found = Write(engine, sampling, 60, &speculator);
        ExpectSame(found, plain, name);
        EXPECT_EQ(found.ids, plain.ids) << name;
        EXPECT_EQ(found.next, plain.next) << name << ": what stayed lies where it should";
        if (name == "right beside wrong") {
          EXPECT_GT(speculator.stats().n_accepted, 10);
        }
      }
    }
  }
}

// Another model with the same vocabulary, whose best few are now and then the right ones, and the
// model itself with its best few.
TEST(Speculate, AModelDraftsTrees) {
  Engine engine(GoldenOptions());
  for (const char* of_draft : {"rope_partial", "gqa_relu"}) {
    ModelDraft draft(std::make_unique<Engine>(GoldenOptions(of_draft)));
    ASSERT_EQ(draft.engine().config().vocab_size, engine.config().vocab_size);
    for (const float temperature : {0.0F, 0.8F}) {
      SamplerOptions sampling;
      sampling.temperature = temperature;
      sampling.seed = 5;
      const Written plain = Write(engine, sampling, 80, nullptr);
      Speculator speculator(draft, TreeOptions(3), engine.config().vocab_size);
      const Written found = Write(engine, sampling, 80, &speculator);
      ExpectSame(found, plain, of_draft);
      EXPECT_EQ(found.next, plain.next);
      if (of_draft == std::string("rope_partial")) continue;
      EXPECT_GT(speculator.stats().n_accepted, 5) << temperature;
      if (temperature == 0) {
        EXPECT_LE(found.generation.decode_passes, 20);
      }
    }
  }
}

// Of a tree that it has read a draft's model keeps what has become the text, wherever that lay:
// what it proposes next is what it would if it read all of the text.
TEST(Speculate, AModelKeepsOfItsTreeWhatBecameTheText) {
  EngineOptions options = GoldenOptions();
  options.cache_type = DType::kF32;
  options.batch_tokens = 64;
  ModelDraft draft(std::make_unique<Engine>(options));
  const Sampler sampler({.temperature = 0});
  const Confidence confidence;
  const auto propose = [&](ModelDraft& by, const std::vector<int32_t>& ids) {
    DraftTree tree({.vocab_size = draft.engine().config().vocab_size,
                    .max_depth = 4,
                    .max_nodes = 12,
                    .max_children = 3},
                   sampler, nullptr, confidence);
    const DraftRequest request{.ids = ids, .tree = &tree};
    by.Draft({&request, 1});
    return std::vector<DraftTree::Node>(tree.nodes().begin(), tree.nodes().end());
  };
  std::vector<int32_t> ids = kPrompt;
  int64_t n_beside = 0;
  for (size_t round = 0; round < 12; ++round) {
    const std::vector<DraftTree::Node> nodes = propose(draft, ids);
    ModelDraft fresh(std::make_unique<Engine>(options));
    const std::vector<DraftTree::Node> expected = propose(fresh, ids);
    ASSERT_EQ(nodes.size(), expected.size());
    for (size_t i = 0; i < nodes.size(); ++i) {
      EXPECT_EQ(nodes[i].token, expected[i].token) << round << " " << i;
      EXPECT_EQ(nodes[i].parent, expected[i].parent) << round << " " << i;
      EXPECT_NEAR(nodes[i].confidence, expected[i].confidence, 1e-3);
    }
    // Now one path, now another, and at its end a token that is none of the tree's.
    std::vector<int32_t> path;
    for (auto at = static_cast<int32_t>((5 * round + 3) % nodes.size()); at >= 0;
         at = nodes[static_cast<size_t>(at)].parent) {
      path.push_back(nodes[static_cast<size_t>(at)].token);
      n_beside += nodes[static_cast<size_t>(at)].place > 0 ? 1 : 0;
    }
    ids.insert(ids.end(), path.rbegin(), path.rend());
    ids.push_back(60 + static_cast<int32_t>(round));
  }
  EXPECT_GT(n_beside, 5);
}

TEST(Speculate, StopsWhereItWouldWithoutDrafts) {
  Engine engine(GoldenOptions("gqa_relu", 40));
  ModelDraft draft(std::make_unique<Engine>(GoldenOptions("gqa_relu", 40)));
  const SamplerOptions sampling{.temperature = 0};
  for (const int64_t width : {1, 3}) {
    Speculator speculator(draft,
                          {.max_tokens = kDrafted, .max_children = width, .follows_times = false},
                          engine.config().vocab_size);
    ExpectSame(Write(engine, sampling, -1, &speculator), Write(engine, sampling, -1, nullptr),
               "until the context is full");
    for (const int64_t n : {0, 1, 2, 3, 9, 10, 11}) {
      ExpectSame(Write(engine, sampling, n, &speculator), Write(engine, sampling, n, nullptr),
                 std::to_string(n));
    }
  }
}

// A reply is stopped in the middle of what a pass accepted, and goes on.
TEST(Speculate, GoesOnBehindAnInterruption) {
  Engine engine(GoldenOptions());
  const SamplerOptions sampling{.temperature = 0};
  const Written plain = Write(engine, sampling, 30, nullptr);
  ModelDraft draft(std::make_unique<Engine>(GoldenOptions()));
  for (const int n_before : {1, 3, 5}) {
    Speculator speculator(draft, {.max_tokens = 6, .follows_times = false},
                          engine.config().vocab_size);
    Generator generator(engine, sampling);
    generator.set_speculator(&speculator, false);
    std::string text;
    int n_pieces = 0;
    const Generation first = generator.Continue(kPrompt, 30, [&](std::string_view piece) {
      text += piece;
      if (++n_pieces == n_before) RequestInterrupt();
    });
    ClearInterrupt();
    EXPECT_EQ(first.stop, StopReason::kInterrupted);
    EXPECT_TRUE(generator.can_go_on());
    generator.Continue({}, 30 - first.generated_tokens,
                       [&](std::string_view piece) { text += piece; });
    // Characters that were cut at the interruption show as such.
    EXPECT_EQ(engine.n_past(), static_cast<int64_t>(kPrompt.size()) + 29);
    if (plain.text.find("\xEF\xBF\xBD") == std::string::npos) {
      EXPECT_EQ(text, plain.text);
    }
  }
}

// Which of them it keeps to follows from times (AutoDraft.KeepsToWhatBringsMostInTheTime); that it
// tries both does not.
TEST(Speculate, WritesTheSameTextWhoeverOfSeveralDrafts) {
  Engine engine(GoldenOptions());
  FunctionDraft wrong([](const DraftRequest& request) {
    int32_t at = DraftTree::kText;
    while (request.tree->WantsMore(at)) at = request.tree->Add(at, 7, 0.9);
  });
  ModelDraft right(std::make_unique<Engine>(GoldenOptions()));
  AutoDraft both({&wrong, &right});
  Speculator speculator(both, {.max_tokens = 4, .follows_times = false},
                        engine.config().vocab_size);
  const SamplerOptions sampling{.temperature = 0};
  ExpectSame(Write(engine, sampling, 100, &speculator), Write(engine, sampling, 100, nullptr),
             "auto");
  EXPECT_GE(speculator.stats().n_accepted, 3 * 4);
  EXPECT_GE(speculator.stats().n_drafted - speculator.stats().n_accepted, 3 * 4);
}

// Two sources of 4 tokens each, of which all and none are accepted, verified in 2 ms.
TEST(AutoDraft, KeepsToWhatBringsMostInTheTime) {
  struct Case {
    double right_ms;
    double least_share;  // of the turns that the right one gets
    double most_share;
  };
  // (4 + 1) tokens in so many ms against 1 in 2 ms.
  for (const auto& [right_ms, least_share, most_share] :
       {Case{0, 0.85, 1}, Case{7, 0.85, 1}, Case{9, 0, 0.15}}) {
    SCOPED_TRACE(right_ms);
    double now_ms = 0;
    int n_right = 0;
    const auto propose = [](const DraftRequest& request) {
      int32_t at = DraftTree::kText;
      while (request.tree->WantsMore(at)) at = request.tree->Add(at, 7, 0.9);
    };
    FunctionDraft wrong(propose);
    FunctionDraft right([&, right_ms = right_ms](const DraftRequest& request) {
      propose(request);
      now_ms += right_ms;
      ++n_right;
    });
    AutoDraft both({&wrong, &right}, [&] { return now_ms; });
    Speculator speculator(both, {.max_tokens = 4, .follows_times = false}, kToyVocab,
                          [&] { return now_ms; });
    const Sampler sampler(SamplerOptions{.temperature = 0});
    std::vector<int32_t> ids = {5};
    constexpr int kTurns = 96;
    for (int turn = 0; turn < kTurns; ++turn) {
      const int n_before = n_right;
      const SpeculatedText asked{.ids = ids, .sampler = &sampler, .most = 4};
      const auto trees = speculator.Draft({&asked, 1});
      ASSERT_EQ(trees.front().nodes().size(), 4U);
      speculator.MeasurePass(trees, 0, 2);
      const int32_t n_accepted = n_right > n_before ? 4 : 0;
      speculator.Verified(0, trees.front(), n_accepted - 1, true, n_accepted + 1);
      ids.resize(ids.size() + static_cast<size_t>(n_accepted) + 1, 7);
    }
    EXPECT_GE(n_right, least_share * kTurns);
    EXPECT_LE(n_right, most_share * kTurns);
    EXPECT_GE(n_right, 3) << "not tried";
  }
}

TEST(Speculate, ADraftOfAnotherVocabularyIsRefused) {
  OpenedModel model(GoldenOptions());
  OpenedModel same(GoldenOptions());
  CheckSameVocabulary(same, model);
  EngineOptions options;
  options.model_path = DemoModel();
  options.context_tokens = 128;
  OpenedModel other(options);
  try {
    CheckSameVocabulary(other, model);
    FAIL() << "taken";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("another vocabulary"), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace thermocline
