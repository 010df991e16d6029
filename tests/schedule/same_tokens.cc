// Whether texts get the tokens that they get alone: in a full batch, sent away for want of pages,
// with pages in the host's memory, with and without what the prefix cache has of them.
//
//   same_tokens MODEL TEXT [N_TEXTS [PROMPT_TOKENS [REPLY_TOKENS [AT_A_TIME [TIES_PER_1000]]]]]
//
// Prompts are cut from the text; every second one begins as the one before it does. A text may part
// where the two best logits lie closer together than twice what another way to feed the same tokens
// moves a logit (a near-tie); it is compared up to there. Fails where one parts otherwise, or where
// so many tokens in 1000 are near-ties, or more (default 1).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/engine/evaluate.h"
#include "runtime/schedule/scheduler.h"
#include "runtime/text/token_sets.h"
#include "tests/schedule/collector.h"

namespace thermocline {
namespace {

using Ids = std::vector<int32_t>;

struct Load {
  std::string model;
  int64_t n_texts = 24;
  int64_t prompt_tokens = 160;
  int64_t reply_tokens = 96;
  int64_t at_a_time = 8;
  int64_t ties_per_1000 = 1;

  int64_t text_tokens() const { return prompt_tokens + reply_tokens + 1; }
};

struct Way {
  const char* name;
  int64_t n_slots = 1;
  bool few_pages = false;  // room for little more than two texts
  bool keeps_prefixes = false;
  uint64_t host_bytes = 0;
  int n_rounds = 1;  // the last one counts
};

EngineOptions OptionsOf(const Load& load, const Way& way) {
  EngineOptions options;
  options.model_path = load.model;
  options.context_tokens = load.text_tokens();
  options.n_sequences = way.n_slots;
  if (way.few_pages) options.kv_tokens = 5 * load.text_tokens() / 2;
  return options;
}

std::vector<Ids> PromptsOf(const Load& load, const std::string& text_path) {
  std::ifstream file(text_path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  OpenedModel model(OptionsOf(load, {.name = ""}));
  const Ids all = model.tokenizer().Encode(text);
  const auto n = static_cast<size_t>(load.prompt_tokens);
  const size_t step = all.size() / static_cast<size_t>(load.n_texts + 1);
  if (all.size() < 2 * n) {
    throw Error({.path = text_path,
                 .what = "the text is too short",
                 .expected = std::to_string(2 * n) + " tokens or more",
                 .found = std::to_string(all.size())});
  }
  std::vector<Ids> prompts;
  for (size_t i = 0; i < static_cast<size_t>(load.n_texts); ++i) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(std::min(i * step, all.size() - n));
    Ids prompt(begin, begin + static_cast<ptrdiff_t>(n));
    if (i % 2 == 1) {
      std::copy_n(prompts.back().begin(), n * 3 / 4, prompt.begin());
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

struct Written {
  std::vector<Ids> texts;
  ScheduleStats stats;
};

Written Write(const Load& load, const Way& way, const std::vector<Ids>& prompts) {
  Engine engine(OptionsOf(load, way));
  Scheduler scheduler(engine, {.n_slots = static_cast<int32_t>(way.n_slots),
                               .keeps_prefixes = way.keeps_prefixes,
                               .kv_host_bytes = way.host_bytes});
  Request common;
  common.sampler.temperature = 0;
  common.max_tokens = load.reply_tokens;
  common.use_cache = way.keeps_prefixes;
  for (const int32_t id : EndTokens(engine.tokenizer())) {
    common.sampler.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
  }
  Written written;
  RequestId next_id = 0;
  for (int round = 0; round < way.n_rounds; ++round) {
    std::vector<std::shared_ptr<Collector>> all;
    for (const Ids& prompt : prompts) {
      Request request = common;
      request.prompt = prompt;
      all.push_back(std::make_shared<Collector>());
      scheduler.Submit(next_id++, std::move(request), all.back());
    }
    while (scheduler.Step()) {
    }
    written.texts.clear();
    for (const auto& collector : all) written.texts.push_back(collector->texts[0].ids);
  }
  written.stats = scheduler.stats();
  return written;
}

// What feeding a text in one go moves its logits by, against token by token.
double NoiseOf(Engine& engine, const Ids& prompt) {
  double noise = 0;
  const size_t n = std::min<size_t>(prompt.size(), 96);
  for (size_t length = n / 2; length <= n; length += 8) {
    engine.Reset();
    const auto together = engine.Feed(std::span(prompt).first(length));
    const std::vector<float> expected(together.begin(), together.end());
    engine.Reset();
    std::span<const float> found;
    for (size_t i = 0; i < length; ++i) found = engine.Feed(std::span(prompt).subspan(i, 1));
    for (size_t i = 0; i < expected.size(); ++i) {
      noise = std::max(noise, std::abs(static_cast<double>(expected[i]) - found[i]));
    }
  }
  return noise;
}

struct Counts {
  int64_t n_tokens = 0;
  int64_t n_near_ties = 0;
  int64_t n_parted = 0;  // otherwise
};

// The margin between the two best logits behind a prompt and some of its reply.
double MarginAt(Engine& engine, const Ids& prompt, const Ids& reply, size_t n) {
  Ids ids = prompt;
  ids.insert(ids.end(), reply.begin(), reply.begin() + static_cast<ptrdiff_t>(n));
  engine.Reset();
  const auto logits = engine.Feed(ids);
  std::vector<float> allowed(logits.begin(), logits.end());
  for (const int32_t id : EndTokens(engine.tokenizer())) {
    allowed[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
  }
  return FindBest(allowed).margin;
}

int Run(const Load& load, const std::string& text_path) {
  const std::vector<Ids> prompts = PromptsOf(load, text_path);
  const Way alone = {.name = "alone"};
  Written expected;
  for (const Ids& prompt : prompts) {
    expected.texts.push_back(Write(load, alone, {prompt}).texts[0]);
  }
  Engine engine(OptionsOf(load, alone));
  const double noise = NoiseOf(engine, prompts[0]);
  const int64_t n = load.at_a_time;
  constexpr uint64_t kHostBytes = uint64_t{1} << 30;
  const Way ways[] = {
      {"one after the other", 1},
      {"full batch", n},
      {"with prefixes", n, false, true, 0, 2},
      {"few pages", n, true},
      {"few pages, prefixes", n, true, true, 0, 2},
      {"few pages, host memory", n, true, true, kHostBytes, 2},
  };
  Counts all;
  std::printf("a logit moves by %.3g; %zu texts of %lld + %lld tokens\n", noise, prompts.size(),
              static_cast<long long>(load.prompt_tokens),
              static_cast<long long>(load.reply_tokens));
  std::printf("%-24s %10s %10s %10s %12s %12s %10s\n", "", "tokens", "near-ties", "parted",
              "sent away", "cached", "back");
  for (const Way& way : ways) {
    const Written written = Write(load, way, prompts);
    Counts counts;
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto parts = std::ranges::mismatch(written.texts[i], expected.texts[i]);
      const auto same = static_cast<size_t>(parts.in1 - written.texts[i].begin());
      counts.n_tokens += static_cast<int64_t>(same);
      if (parts.in2 == expected.texts[i].end()) continue;
      ++counts.n_tokens;
      const bool tie = MarginAt(engine, prompts[i], expected.texts[i], same) <= 2 * noise;
      ++(tie ? counts.n_near_ties : counts.n_parted);
    }
    const ScheduleStats& s = written.stats;
    std::printf("%-24s %10lld %10lld %10lld %12lld %12lld %10lld\n", way.name,
                static_cast<long long>(counts.n_tokens), static_cast<long long>(counts.n_near_ties),
                static_cast<long long>(counts.n_parted), static_cast<long long>(s.n_preempted),
                static_cast<long long>(s.cached_tokens),
                static_cast<long long>(s.host_pages.n_back));
    all.n_tokens += counts.n_tokens;
    all.n_near_ties += counts.n_near_ties;
    all.n_parted += counts.n_parted;
  }
  const bool few_ties = 1000 * all.n_near_ties < load.ties_per_1000 * all.n_tokens;
  std::printf("%lld near-ties in %lld tokens%s\n", static_cast<long long>(all.n_near_ties),
              static_cast<long long>(all.n_tokens), few_ties ? "" : ": too many");
  return all.n_parted == 0 && few_ties ? 0 : 1;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: same_tokens MODEL TEXT [N_TEXTS [PROMPT [REPLY [AT_A_TIME [TIES]]]]]\n");
    return 2;
  }
  thermocline::Load load;
  load.model = argv[1];
  int64_t* const numbers[] = {&load.n_texts, &load.prompt_tokens, &load.reply_tokens,
                              &load.at_a_time, &load.ties_per_1000};
  for (int i = 3; i < std::min(argc, 8); ++i) *numbers[i - 3] = std::max(1L, std::atol(argv[i]));
  try {
    return thermocline::Run(load, argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "same_tokens: %s\n", error.what());
    return 1;
  }
}
