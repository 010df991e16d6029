// Many texts at once, with drafts: the tokens, the pages and the ends are those without.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "runtime/drafts/model_draft.h"
#include "runtime/speculate/ngram_draft.h"
#include "tests/schedule/served.h"

namespace thermocline {
namespace {

constexpr int64_t kMaxRows = 24;

EngineOptions DraftedModel(int64_t n_sequences, int64_t context_tokens = 128) {
  EngineOptions options = SmallModel(n_sequences, context_tokens);
  options.drafted_rows = kMaxRows;
  return options;
}

// Right for some tokens and then wrong, each text and each time elsewhere: knows what texts become.
class HalfRight : public DraftSource {
 public:
  std::string name() const override { return "half right"; }
  void Draft(std::span<const DraftRequest> requests) override {
    for (const DraftRequest& request : requests) {
      const std::vector<int32_t>* whole = WholeOf(request.ids);
      int32_t at = DraftTree::kText;
      const size_t n_right = n_calls_++ % 5;
      const bool is_wide = request.tree->max_children() > 1;
      for (size_t i = 0; request.tree->WantsMore(at); ++i) {
        const size_t next = request.ids.size() + i;
        const bool is_right = whole != nullptr && next < whole->size() && i < n_right;
        // In a tree what is right stands beside what is not.
        if (is_wide && i % 2 == 0)
          request.tree->Add(at, is_right && (*whole)[next] == 9 ? 8 : 9, 1);
        at = request.tree->Add(at, is_right ? (*whole)[next] : 10, 0.5);
      }
    }
  }
  void Forget(int32_t /*text*/) override { ++n_forgotten; }
  std::vector<std::vector<int32_t>> texts;
  int64_t n_forgotten = 0;

 private:
  const std::vector<int32_t>* WholeOf(std::span<const int32_t> ids) const {
    for (const auto& text : texts) {
      if (text.size() >= ids.size() && std::ranges::equal(ids, std::span(text).first(ids.size()))) {
        return &text;
      }
    }
    return nullptr;
  }
  size_t n_calls_ = 0;
};

// What requests give without drafts, one after the other.
std::vector<Collector::Text> Alone(const std::vector<Request>& requests,
                                   int64_t context_tokens = 128) {
  std::vector<Collector::Text> texts;
  Served served(SmallModel(1, context_tokens), {.n_slots = 1});
  for (const Request& request : requests) texts.push_back(served.Run(request));
  return texts;
}

void Know(HalfRight* source, const Request& request, const Collector::Text& text) {
  std::vector<int32_t> whole = request.prompt;
  whole.insert(whole.end(), text.ids.begin(), text.ids.end());
  source->texts.push_back(whole);
}

int64_t VocabSize() { return OpenedModel(SmallModel(1)).config().vocab_size; }

struct Drafted {
  Drafted(const EngineOptions& engine_options, int32_t n_slots, bool keeps_prefixes = true,
          int64_t max_children = 1)
      : speculator(source,
                   {.max_tokens = 6,
                    .max_children = max_children,
                    .max_rows = kMaxRows,
                    .follows_times = false},
                   VocabSize()),
        served(engine_options,
               {.n_slots = n_slots, .keeps_prefixes = keeps_prefixes, .speculator = &speculator}) {}
  HalfRight source;
  Speculator speculator;
  Served served;
};

void ExpectTokensAsAlone(int64_t max_children) {
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(GreedyRequest(PromptOf(i, 5 + 7 * static_cast<size_t>(i)), 20 + 5 * i));
    if (i % 2 == 1) {
      // Sampled, by a seed that was given.
      requests.back().sampler.temperature = 0.9F;
      requests.back().sampler.seed = static_cast<uint64_t>(i);
      requests.back().draws_drafts = false;
    }
  }
  const auto alone = Alone(requests);
  Drafted drafted(DraftedModel(4), 4, /*keeps_prefixes=*/true, max_children);
  for (size_t i = 0; i < requests.size(); ++i) Know(&drafted.source, requests[i], alone[i]);
  std::vector<std::shared_ptr<Collector>> collectors;
  for (const Request& request : requests) collectors.push_back(drafted.served.Submit(request));
  drafted.served.RunAll();
  int64_t n_drafted = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Collector::Text& text = collectors[i]->texts.at(0);
    EXPECT_EQ(text.ids, alone[i].ids) << i;
    EXPECT_EQ(text.reason, alone[i].reason) << i;
    EXPECT_GT(text.stats.n_draft_accepted, 0) << i;
    EXPECT_LT(text.stats.n_draft_accepted, text.stats.n_drafted) << i;
    n_drafted += text.stats.n_drafted;
  }
  const ScheduleStats stats = drafted.served.scheduler.stats();
  EXPECT_EQ(stats.speculation.n_drafted, n_drafted);
  EXPECT_LT(stats.n_passes, 75) << "than there are tokens";
  EXPECT_EQ(stats.generated_tokens, 20 + 25 + 30 + 35 + 40 + 45);
  EXPECT_EQ(stats.written_tokens, stats.generated_tokens - 6)
      << "each text's first is the prompt's";
}

TEST(DraftedTexts, GetTheTokensThatTheyGetAlone) { ExpectTokensAsAlone(1); }
TEST(DraftedTexts, GetTheTokensThatTheyGetAloneFromTrees) { ExpectTokensAsAlone(3); }

class DraftedByAModel : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Widths, DraftedByAModel, testing::Values(1, 3));

TEST_P(DraftedByAModel, SeveralTextsAtOnce) {
  ModelDraft draft(std::make_unique<Engine>(DraftedModel(3)));
  Speculator speculator(
      draft,
      {.max_tokens = 5, .max_children = GetParam(), .max_rows = kMaxRows, .follows_times = false},
      draft.engine().config().vocab_size);
  Served served(DraftedModel(3), {.n_slots = 3, .speculator = &speculator});
  std::vector<Request> requests;
  for (int i = 0; i < 5; ++i) {
    requests.push_back(GreedyRequest(PromptOf(i, 9 + 20 * static_cast<size_t>(i)), 24));
  }
  std::vector<std::shared_ptr<Collector>> collectors;
  for (const Request& request : requests) collectors.push_back(served.Submit(request));
  served.RunAll();
  const auto alone = Alone(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(collectors[i]->texts.at(0).ids, alone[i].ids) << i;
  }
  // The same model: nothing is refused, but where rounding parts two that nearly tie.
  if (GetParam() == 1) {
    EXPECT_GE(speculator.stats().n_accepted * 100, speculator.stats().n_drafted * 95);
  } else {
    EXPECT_GE(speculator.stats().n_accepted, speculator.stats().n_drafts);
  }
}

TEST(DraftedTexts, WhoFindsTooFewPagesIsReadAgainAndWritesTheSame) {
  EngineOptions options = DraftedModel(3, 128);
  options.kv_tokens = 160;
  std::vector<Request> requests;
  for (int i = 0; i < 3; ++i) requests.push_back(GreedyRequest(PromptOf(i, 30), 60));
  const auto alone = Alone(requests);
  Drafted drafted(options, 3);
  for (size_t i = 0; i < requests.size(); ++i) Know(&drafted.source, requests[i], alone[i]);
  std::vector<std::shared_ptr<Collector>> collectors;
  for (const Request& request : requests) collectors.push_back(drafted.served.Submit(request));
  drafted.served.RunAll();
  EXPECT_GT(drafted.served.scheduler.stats().n_preempted, 0);
  EXPECT_GE(drafted.source.n_forgotten, 3 + drafted.served.scheduler.stats().n_preempted);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(collectors[i]->texts.at(0).ids, alone[i].ids) << i;
  }
}

TEST(DraftedTexts, EndWhereTheyWouldWithoutDrafts) {
  // At the context's end, also shifted; at the listener's wish; at their limit.
  Request full = GreedyRequest(PromptOf(1, 20), -1);
  Request shifted = GreedyRequest(PromptOf(2, 20), 60);
  shifted.context_shift = true;
  shifted.n_keep = 4;
  const std::vector<Request> requests = {full, shifted, GreedyRequest(PromptOf(3, 20), 1),
                                         GreedyRequest(PromptOf(4, 20), 2)};
  const auto alone = Alone(requests, 48);
  Drafted drafted(DraftedModel(1, 48), 1);
  for (size_t i = 0; i < requests.size(); ++i) Know(&drafted.source, requests[i], alone[i]);
  for (size_t i = 0; i < requests.size(); ++i) {
    const Collector::Text text = drafted.served.Run(requests[i]);
    EXPECT_EQ(text.ids, alone[i].ids) << i;
    EXPECT_EQ(text.reason, alone[i].reason) << i;
    EXPECT_EQ(text.stats.n_shifted, alone[i].stats.n_shifted) << i;
  }
  const auto stopped = std::make_shared<Collector>();
  stopped->stops_after = 7;
  drafted.served.scheduler.Submit(99, full, stopped);
  drafted.served.RunAll();
  EXPECT_EQ(stopped->texts.at(0).reason, EndReason::kStopped);
  EXPECT_EQ(stopped->texts.at(0).ids,
            std::vector<int32_t>(alone[0].ids.begin(), alone[0].ids.begin() + 7));
  // What the slot holds is what the text is: the next one goes on from it.
  Request longer = full;
  longer.prompt.insert(longer.prompt.end(), alone[0].ids.begin(), alone[0].ids.begin() + 7);
  longer.max_tokens = 8;
  const Collector::Text next = drafted.served.Run(longer);
  EXPECT_GT(next.stats.cached_tokens, 20);
  EXPECT_EQ(next.ids, std::vector<int32_t>(alone[0].ids.begin() + 7, alone[0].ids.begin() + 15));
}

TEST(DraftedTexts, WhoIsCancelledGivesHisPagesBackAtOnce) {
  Drafted drafted(DraftedModel(2), 2, /*keeps_prefixes=*/false);
  const Request request = GreedyRequest(PromptOf(1, 30), 90);
  const auto other = Alone({GreedyRequest(PromptOf(2, 30), 40)});
  Know(&drafted.source, request, Alone({request})[0]);
  const auto cancelled = drafted.served.Submit(request);
  const auto goes_on = drafted.served.Submit(GreedyRequest(PromptOf(2, 30), 40));
  for (int i = 0; i < 6; ++i) drafted.served.scheduler.Step();
  drafted.served.scheduler.Cancel(1);
  EXPECT_EQ(cancelled->texts.at(0).reason, EndReason::kCancelled);
  drafted.served.RunAll();
  EXPECT_EQ(goes_on->texts.at(0).ids, other[0].ids);
  const PageCounts pages = drafted.served.scheduler.stats().pages.at(0);
  EXPECT_EQ(pages.n_free, pages.n_pages);
}

TEST(DraftedTexts, ContinuationsAndProbabilities) {
  Request request = GreedyRequest(PromptOf(1, 40), 20);
  request.n = 3;
  request.n_probs = 2;
  Served without(SmallModel(3), {.n_slots = 3});
  const auto plain = without.Submit(request);
  without.RunAll();
  Drafted drafted(DraftedModel(3), 3);
  Know(&drafted.source, request, plain->texts.at(0));
  const auto told = drafted.served.Submit(request);
  drafted.served.RunAll();
  for (int32_t i = 0; i < 3; ++i) {
    const Collector::Text& a = told->texts.at(i);
    const Collector::Text& b = plain->texts.at(i);
    ASSERT_EQ(a.ids, b.ids);
    for (size_t t = 0; t < a.ids.size(); ++t) EXPECT_NEAR(a.logprobs[t], b.logprobs[t], 1e-3);
    EXPECT_EQ(a.likeliest.size(), b.likeliest.size());
  }
}

// A source that fails ends drafting, and no text.
TEST(DraftedTexts, OutliveTheirSource) {
  class Failing : public DraftSource {
   public:
    std::string name() const override { return "failing"; }
    void Draft(std::span<const DraftRequest> requests) override {
      for (const DraftRequest& request : requests) request.tree->Add(DraftTree::kText, 9, 1);
      if (++n_calls > 3) throw std::runtime_error("the draft's file is gone");
    }
    int n_calls = 0;
  };
  Failing source;
  Speculator speculator(source, {.max_tokens = 6, .max_rows = kMaxRows, .follows_times = false},
                        VocabSize());
  Served served(DraftedModel(1), {.n_slots = 1, .speculator = &speculator});
  const Request request = GreedyRequest(PromptOf(1, 20), 30);
  EXPECT_EQ(served.Run(request).ids, Alone({request})[0].ids);
  EXPECT_EQ(served.scheduler.stats().speculation.failure, "the draft's file is gone");
  EXPECT_EQ(source.n_calls, 4);
}

}  // namespace
}  // namespace thermocline
