// Tokens that were drawn from another distribution and accepted or refused have the sampler's, with
// every setting; whatever drafts do, they change nothing but speed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/sampling/sampler.h"
#include "runtime/speculate/ngram_draft.h"
#include "tests/sampling/distributions.h"
#include "tests/speculate/toy_text.h"
#include "tests/support/short_tests.h"

namespace thermocline {
namespace {

// Few in a sanitizer's lean tree: the distributions are the optimised tree's to tell.
const int kDraws = ShortTests() ? 4'000 : 100'000;
const int kPairs = ShortTests() ? 1'200 : 30'000;

struct SamplerCase {
  const char* name;
  SamplerOptions options;
};

template <typename Change>
SamplerCase Case(const char* name, Change change) {
  SamplerOptions options = Plain();
  change(options);
  return {name, options};
}

std::vector<SamplerCase> AllCases() {
  return {
      Case("plain", [](SamplerOptions&) {}),
      Case("temperature", [](SamplerOptions& o) { o.temperature = 0.6F; }),
      Case("hot", [](SamplerOptions& o) { o.temperature = 1.7F; }),
      Case("top_k", [](SamplerOptions& o) { o.top_k = 4; }),
      Case("top_p", [](SamplerOptions& o) { o.top_p = 0.7F; }),
      Case("min_p", [](SamplerOptions& o) { o.min_p = 0.2F; }),
      Case("typical", [](SamplerOptions& o) { o.typical_p = 0.6F; }),
      Case("top_n_sigma", [](SamplerOptions& o) { o.top_n_sigma = 1; }),
      Case("xtc",
           [](SamplerOptions& o) {
             o.xtc_probability = 0.4F;
             o.xtc_threshold = 0.08F;
           }),
      Case("dynamic_temperature",
           [](SamplerOptions& o) {
             o.temperature = 0.9F;
             o.dynatemp_range = 0.6F;
           }),
      Case("repeat_penalty", [](SamplerOptions& o) { o.repeat_penalty = 1.6F; }),
      Case("presence_and_frequency",
           [](SamplerOptions& o) {
             o.presence_penalty = 0.5F;
             o.frequency_penalty = 0.4F;
           }),
      Case("dry",
           [](SamplerOptions& o) {
             o.dry_multiplier = 1.5F;
             o.dry_allowed_length = 1;
           }),
      Case("logit_bias",
           [](SamplerOptions& o) {
             o.logit_bias = {{3, 1.5F}, {5, -std::numeric_limits<float>::infinity()}};
           }),
      Case("usual",
           [](SamplerOptions& o) {
             o = SamplerOptions();
             o.top_k = 8;
           }),
      Case("mirostat_1",
           [](SamplerOptions& o) {
             o.mirostat = 1;
             o.mirostat_tau = 1.5F;
             o.mirostat_eta = 0.5F;
           }),
      Case("mirostat_2",
           [](SamplerOptions& o) {
             o.mirostat = 2;
             o.mirostat_tau = 1.2F;
             o.mirostat_eta = 0.5F;
           }),
  };
}

const std::vector<int32_t> kHistory = {1, 4, 2, 1, 4, 2, 7, 1, 4};

// By weights, not by draws; `sampler` knows the text. XTC is a coin and two distributions.
std::map<int32_t, double> ExactChances(const SamplerOptions& options,
                                       const std::vector<float>& logits) {
  std::map<int32_t, double> chances;
  const auto add = [&](SamplerOptions of, double share) {
    Sampler sampler(of);
    for (const int32_t id : kHistory) sampler.Accept(id);
    double sum = 0;
    const auto all = sampler.Chances({.all = logits}, nullptr);
    for (const auto& c : all) sum += c.weight;
    for (const auto& c : all) {
      if (c.weight > 0) chances[c.id] += share * c.weight / sum;
    }
  };
  SamplerOptions with = options;
  SamplerOptions without = options;
  const auto coin = static_cast<double>(options.xtc_probability);
  with.xtc_probability = 1;
  without.xtc_probability = 0;
  if (coin > 0) add(with, coin);
  add(without, 1 - coin);
  return chances;
}

class RejectionTest : public testing::TestWithParam<SamplerCase> {};

INSTANTIATE_TEST_SUITE_P(Samplers, RejectionTest, testing::ValuesIn(AllCases()),
                         [](const auto& each) { return std::string(each.param.name); });

// What is drafted comes from a distribution that has tokens which the sampler drops, and lacks some
// that it keeps.
TEST_P(RejectionTest, TokensHaveTheSamplersDistribution) {
  SamplerOptions options = GetParam().options;
  options.seed = 11;
  const std::vector<float> logits = ToyLogits(kHistory);
  const std::vector<TokenChance> drafted = {{0, 0.05}, {1, 0.1},  {3, 0.2}, {4, 0.25},
                                            {6, 0.05}, {8, 0.15}, {9, 0.1}, {11, 0.1}};
  Sampler sampler(options);
  for (const int32_t id : kHistory) sampler.Accept(id);
  Random random(5);
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    if (options.mirostat != 0) {
      // Its state changes with every token.
      options.seed = static_cast<uint64_t>(i) + 1;
      sampler = Sampler(options);
      for (const int32_t id : kHistory) sampler.Accept(id);
    }
    double target = random.Uniform();
    Proposal proposal{.id = drafted.back().id, .chances = drafted};
    for (const TokenChance& chance : drafted) {
      proposal.id = chance.id;
      target -= chance.probability;
      if (target < 0) break;
    }
    ++counts[sampler.Sample(logits, nullptr, &proposal)];
  }
  ExpectDistribution(counts, ExactChances(options, logits));
}

// Those that stand beside a drawn one are the likeliest, and are looked at by what came of that.
TEST_P(RejectionTest, TokensBesideADrawnOneChangeNothing) {
  const std::vector<float> logits = ToyLogits(kHistory);
  int64_t n_beside = 0;  // accepted
  FunctionDraft bent([](const DraftRequest& request) {
    GrowToy(request, [](std::span<const int32_t> text) {
      // One token too likely, so that what else is likely is drawn in its place.
      std::vector<float> of_draft = ToyLogits(text);
      *std::ranges::max_element(of_draft) += 1;
      return of_draft;
    });
  });
  std::map<int32_t, int> counts;
  const Confidence confidence;
  Random random(7);
  SamplerOptions options = GetParam().options;
  options.seed = 11;
  Sampler sampler(options);
  for (const int32_t id : kHistory) sampler.Accept(id);
  for (int i = 0; i < kDraws; ++i) {
    if (options.mirostat != 0) {
      // Its state changes with every token.
      options.seed = static_cast<uint64_t>(i) + 1;
      sampler = Sampler(options);
      for (const int32_t id : kHistory) sampler.Accept(id);
    }
    DraftTree tree({.vocab_size = kToyVocab,
                    .max_depth = 1,
                    .max_nodes = 3,
                    .max_children = 3,
                    .seed = static_cast<uint64_t>(random.Uniform() * 0x1p53)},
                   sampler, nullptr, confidence);
    const DraftRequest request{.ids = kHistory, .tree = &tree};
    bent.Draft({&request, 1});
    ASSERT_FALSE(tree.empty());
    const std::optional<Proposal> drawn = tree.DrawnBehind(DraftTree::kText);
    const int32_t id = sampler.Sample(logits, nullptr, drawn ? &*drawn : nullptr);
    ++counts[id];
    n_beside += tree.ChildWith(DraftTree::kText, id) > 0 ? 1 : 0;
  }
  ExpectDistribution(counts, ExactChances(options, logits));
  // The second version of mirostat leaves this draft one token, and nothing beside it.
  if (options.mirostat != 2) {
    EXPECT_GT(n_beside, 0);
  }
}

// Two tokens, so that what the first one changes (penalties, mirostat's surprise) bears on the
// second, drafted by a model that is nearly right; against as many pairs written without drafts.
void ExpectPairs(SamplerOptions options, int64_t max_children) {
  // Bent a little, so that some are accepted and some are not.
  FunctionDraft bent([](const DraftRequest& request) {
    GrowToy(request, [](std::span<const int32_t> text) {
      std::vector<float> logits = ToyLogits(text);
      for (size_t i = 0; i < logits.size(); i += 3) logits[i] += 0.7F;
      return logits;
    });
  });
  Speculator speculator(bent,
                        {.max_tokens = max_children == 1 ? 2 : 6,
                         .max_children = max_children,
                         .follows_times = false,
                         .seed = 3},
                        kToyVocab);
  std::map<int32_t, std::pair<double, double>> counts;  // of pairs: without, with
  for (int i = 0; i < kPairs; ++i) {
    for (const bool drafts : {false, true}) {
      options.seed = 2 * static_cast<uint64_t>(i) + (drafts ? 1 : 0);
      Sampler sampler(options);
      for (const int32_t id : kHistory) sampler.Accept(id);
      std::vector<int32_t> text = kHistory;
      WriteToy(drafts ? &speculator : nullptr, &sampler, nullptr, true, 3, &text);
      const size_t n = kHistory.size();
      auto& count = counts[text[n] * 144 + text[n + 1] * 12 + text[n + 2]];
      ++(drafts ? count.second : count.first);
    }
  }
  double chi_square = 0;
  double n_cells = 0;
  std::pair<double, double> rare;
  const auto add = [&](const std::pair<double, double>& cell) {
    const double sum = cell.first + cell.second;
    chi_square += (cell.first - cell.second) * (cell.first - cell.second) / sum;
    ++n_cells;
  };
  for (const auto& [pair, cell] : counts) {
    if (cell.first + cell.second >= 20) {
      add(cell);
    } else {
      rare.first += cell.first;
      rare.second += cell.second;
    }
  }
  if (rare.first + rare.second > 0) add(rare);
  const double df = std::max(1.0, n_cells - 1);
  const double bound = df * std::pow(1 - 2 / (9 * df) + 3.719 * std::sqrt(2 / (9 * df)), 3);
  EXPECT_LT(chi_square, bound);
  const SpeculateStats& stats = speculator.stats();
  const int64_t n_least = max_children == 1 ? stats.n_drafted / 3 : stats.n_drafts / 3;
  EXPECT_GT(stats.n_accepted, n_least) << "so that acceptance is what was tested";
  EXPECT_LT(stats.n_accepted, stats.n_drafted) << "and refusal";
}

TEST_P(RejectionTest, PairsAreDistributedAsWithoutDrafts) { ExpectPairs(GetParam().options, 1); }
TEST_P(RejectionTest, PairsAreDistributedAsWithoutTrees) { ExpectPairs(GetParam().options, 3); }

// With as many tokens verified, where the draft is unsure and sometimes wrong. Where tokens are
// drawn those beside them are worth little here, as the draft has all of these likelier than the
// text.
TEST(Trees, MoreOfThemIsAcceptedThanOfChains) {
  FunctionDraft bent([](const DraftRequest& request) {
    GrowToy(request, [](std::span<const int32_t> text) {
      std::vector<float> logits = ToyLogits(text);
      for (size_t i = 0; i < logits.size(); i += 2) logits[i] += 0.8F;
      return logits;
    });
  });
  for (const float temperature : {0.0F, 1.0F}) {
    const auto per_pass = [&](int64_t max_children) {
      Speculator speculator(
          bent, {.max_tokens = 6, .max_children = max_children, .follows_times = false, .seed = 3},
          kToyVocab);
      SamplerOptions options = Plain();
      options.temperature = temperature;
      options.repeat_penalty = 1.3F;
      options.seed = 1;
      Sampler sampler(options);
      std::vector<int32_t> text = kHistory;
      WriteToy(&speculator, &sampler, nullptr, true, 10'000, &text);
      return 10'000 / static_cast<double>(speculator.stats().n_verify_passes);
    };
    const double least = temperature == 0 ? 1.2 : 0.95;
    EXPECT_GT(per_pass(3), least * per_pass(1)) << temperature;
  }
}

// Each of these is wrong in its own way.
std::vector<std::pair<std::string, FunctionDraft::Propose>> Adversaries() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto chain = [](auto add) {
    return [add](const DraftRequest& request) {
      for (int32_t at = DraftTree::kText; request.tree->WantsMore(at);) at = add(request, at);
    };
  };
  return {
      {"wrong", chain([](const DraftRequest& r, int32_t at) { return r.tree->Add(at, 0, 1); })},
      {"nan", chain([nan](const DraftRequest& r, int32_t at) {
         return r.tree->AddDrawn(at, std::vector<TokenChance>{{2, nan}, {3, nan}});
       })},
      {"some_nan", chain([nan](const DraftRequest& r, int32_t at) {
         return r.tree->AddDrawn(at, std::vector<TokenChance>{{2, nan}, {3, 0.1}, {5, 0.3}});
       })},
      {"infinite", chain([infinity](const DraftRequest& r, int32_t at) {
         return r.tree->AddDrawn(at,
                                 std::vector<TokenChance>{{2, infinity}, {3, 1e300}, {4, 1e300}});
       })},
      {"negative", chain([](const DraftRequest& r, int32_t at) {
         return r.tree->AddDrawn(at, std::vector<TokenChance>{{2, -1}, {3, 0}, {4, 1e-300}});
       })},
      {"twice", chain([](const DraftRequest& r, int32_t at) {
         return r.tree->AddDrawn(at, std::vector<TokenChance>{{2, 0.5}, {2, 0.5}, {3, 0.1}});
       })},
      {"out_of_range", chain([](const DraftRequest& r, int32_t at) {
         const int32_t added = r.tree->AddDrawn(at, std::vector<TokenChance>{{-5, 1}, {12, 1}});
         return added >= 0 ? added : r.tree->Add(at, 1 << 30, 1);
       })},
      {"nan_logits", chain([](const DraftRequest& r, int32_t at) {
         const std::vector<float> logits(kToyVocab, std::nanf(""));
         return r.tree->AddFrom(at, {.all = logits});
       })},
      {"nan_confidence",
       chain([nan](const DraftRequest& r, int32_t at) { return r.tree->Add(at, 3, nan); })},
      {"empty", [](const DraftRequest&) {}},
      {"throws", [](const DraftRequest&) { throw std::runtime_error("no more"); }},
      {"side_branches",
       [](const DraftRequest& r) {
         r.tree->Add(DraftTree::kText, 1, 1);
         r.tree->Add(DraftTree::kText, 2, 1);
         r.tree->AddDrawn(DraftTree::kText, std::vector<TokenChance>{{4, 1}});
         const int32_t drawn = r.tree->AddDrawn(0, std::vector<TokenChance>{{4, 0.5}, {6, 0.5}});
         r.tree->Add(0, 4, 1);
         r.tree->Add(drawn, 6, 1);
       }},
      {"wide_and_wrong",
       [nan](const DraftRequest& r) {
         for (const int32_t token : {-1, 0, 1, 1, 12, 1 << 30}) {
           r.tree->Offer(DraftTree::kText, token, token == 0 ? nan : 2);
         }
         const std::vector<float> logits(kToyVocab, std::nanf(""));
         r.tree->Offer(DraftTree::kText, {.all = logits});
         for (int32_t at = r.tree->TakeBest(nan); at >= 0; at = r.tree->TakeBest(0)) {
           r.tree->Offer(at, at, 1e300);
           r.tree->Offer(at, at + 1, -1);
         }
       }},
      {"grown",
       [](const DraftRequest& r) {
         GrowToy(r, [](std::span<const int32_t> text) {
           std::vector<float> logits = ToyLogits(text);
           logits[3] += 2;
           return logits;
         });
       }},
  };
}

// Greedy, and sampled with a seed that was given: token for token.
TEST(Adversary, ChangesNoTokenWhereNothingIsDrawn) {
  for (const float temperature : {0.0F, 1.0F}) {
    SamplerOptions options = Plain();
    options.temperature = temperature;
    options.seed = 17;
    std::vector<int32_t> plain = kHistory;
    Sampler without(options);
    WriteToy(nullptr, &without, nullptr, false, 200, &plain);
    auto sources = Adversaries();
    sources.emplace_back("right", [&plain](const DraftRequest& request) {
      int32_t at = DraftTree::kText;
      for (size_t i = request.ids.size(); i < plain.size() && request.tree->WantsMore(at); ++i) {
        at = request.tree->Add(at, plain[i], 1);
      }
    });
    for (const auto& [name, propose] : sources) {
      for (const auto& [follows_times, width] : {std::pair{false, 1}, {true, 1}, {false, 3}}) {
        FunctionDraft source(propose);
        Speculator speculator(
            source, {.max_tokens = 6, .max_children = width, .follows_times = follows_times},
            kToyVocab);
        Sampler sampler(options);
        std::vector<int32_t> text = kHistory;
        WriteToy(&speculator, &sampler, nullptr, false, 200, &text);
        EXPECT_EQ(text, plain) << name << " at temperature " << temperature;
        if (name == "right" && !follows_times) {
          EXPECT_EQ(speculator.stats().n_accepted, speculator.stats().n_drafted);
          EXPECT_LE(speculator.stats().n_verify_passes, 200 / 7 + 1);
        }
        EXPECT_EQ(speculator.stats().failure, name == "throws" ? "no more" : "");
      }
    }
  }
}

TEST(Adversary, ChangesNoDistributionWhereTokensAreDrawn) {
  const std::vector<float> logits = ToyLogits(kHistory);
  const auto exact = ExactChances(Plain(), logits);
  for (const auto& [name, propose] : Adversaries()) {
    FunctionDraft source(propose);
    Speculator speculator(
        source, {.max_tokens = 4, .max_children = 3, .follows_times = false, .seed = 9}, kToyVocab);
    std::map<int32_t, int> counts;
    SamplerOptions options = Plain();
    Sampler sampler(options);
    for (int i = 0; i < 20'000; ++i) {
      std::vector<int32_t> text = kHistory;
      WriteToy(&speculator, &sampler, nullptr, true, 2, &text);
      ++counts[text[kHistory.size()]];
    }
    SCOPED_TRACE(name);
    ExpectDistribution(counts, exact);
  }
}

// A text that may hold even tokens only, and its drafts.
class EvenOnly : public TokenMask {
 public:
  bool constrains() const override { return true; }
  void Fill(std::span<uint32_t> allowed) override { allowed[0] = 0x55555555; }
  bool Allows(int32_t id) override { return id % 2 == 0; }
  void Accept(int32_t id) override {
    if (id % 2 != 0) throw std::runtime_error("odd");
  }
  std::unique_ptr<TokenMask> Clone() const override { return std::make_unique<EvenOnly>(); }
};

TEST(Rejection, MasksBindDraftsToo) {
  SamplerOptions options = Plain();
  const std::vector<float> logits = ToyLogits(kHistory);
  std::map<int32_t, double> exact;
  double sum = 0;
  for (const auto& [id, chance] : ExactChances(options, logits)) {
    if (id % 2 == 0) sum += exact[id] = chance;
  }
  for (auto& [id, chance] : exact) chance /= sum;
  // It knows nothing of the mask.
  FunctionDraft source([](const DraftRequest& request) {
    int32_t at = DraftTree::kText;
    while (request.tree->WantsMore(at)) {
      at = request.tree->AddDrawn(at, std::vector<TokenChance>{{1, 0.5}, {2, 0.2}, {4, 0.3}});
    }
    for (const DraftTree::Node& node : request.tree->nodes()) EXPECT_EQ(node.token % 2, 0);
  });
  Speculator speculator(source, {.max_tokens = 3, .follows_times = false, .seed = 9}, kToyVocab);
  Sampler sampler(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < 20'000; ++i) {
    EvenOnly mask;
    std::vector<int32_t> text = kHistory;
    WriteToy(&speculator, &sampler, &mask, true, 2, &text);
    ++counts[text[kHistory.size()]];
  }
  ExpectDistribution(counts, exact);
}

}  // namespace
}  // namespace thermocline
