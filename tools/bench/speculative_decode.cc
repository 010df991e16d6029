#include "tools/bench/speculative_decode.h"

#include <algorithm>

#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"
#include "runtime/engine/generate.h"

namespace thermocline {
namespace {

constexpr int64_t kWarmUpTokens = 16;

struct SpeculativeRun {
  std::vector<int32_t> ids;  // prompt and reply
  double tokens_per_s = 0;
};

SpeculativeRun DecodeOnce(Engine& engine, const SamplerOptions& greedy, Speculator* speculator,
                          const std::vector<int32_t>& prompt, int64_t decode_tokens) {
  Generator generator(engine, greedy);
  if (speculator != nullptr) {
    speculator->Forget(0);
    generator.set_speculator(speculator, false);
  }
  const Generation done = generator.Continue(prompt, decode_tokens, [](std::string_view) {});
  ThrowIfInterrupted();
  return {generator.Ids(), done.decode_ms > 0
                               ? 1000 * static_cast<double>(done.decoded_tokens) / done.decode_ms
                               : 0};
}

// Of as many tokens at each of these speeds.
double MeanMs(const std::vector<double>& tokens_per_s) {
  double sum = 0;
  for (const double speed : tokens_per_s) sum += speed > 0 ? 1e3 / speed : 0;
  return sum / static_cast<double>(tokens_per_s.size());
}

void CompareTexts(Engine& engine, const SpeculativeRun& plain, const SpeculativeRun& drafted,
                  size_t n_prompt, SpeculationResult* result) {
  const auto parts = std::ranges::mismatch(plain.ids, drafted.ids);
  const auto n_same = static_cast<size_t>(parts.in1 - plain.ids.begin());
  result->tokens_compared += static_cast<int64_t>(plain.ids.size() - n_prompt);
  result->tokens_identical += static_cast<int64_t>(n_same - n_prompt);
  if (n_same == plain.ids.size()) return;
  engine.Reset();
  const auto logits = engine.Feed(std::span(plain.ids).first(n_same));
  result->first_difference_margins.push_back(FindBest(logits).margin);
}

}  // namespace

std::vector<SpeculationResult> MeasureSpeculation(Engine& engine, SparseMode mode,
                                                  std::span<Speculator* const> speculators,
                                                  Speculator& warms_up,
                                                  const std::vector<std::vector<int32_t>>& prompts,
                                                  const ComparisonOptions& options) {
  engine.executor().set_mode(mode);
  const SamplerOptions greedy = EndlessGreedy(engine.tokenizer());
  // The first is plain decoding.
  std::vector<Speculator*> ways = {nullptr};
  ways.insert(ways.end(), speculators.begin(), speculators.end());
  std::vector<std::vector<double>> speeds(ways.size());
  std::vector<SpeculationResult> results(ways.size());
  DecodeOnce(engine, greedy, nullptr, prompts.front(), 2);
  DecodeOnce(engine, greedy, &warms_up, prompts.front(),
             std::min(kWarmUpTokens, options.decode_tokens));
  for (size_t p = 0; p < prompts.size(); ++p) {
    Report(options.progress, "drafting (prompts)", p, prompts.size());
    std::vector<SpeculativeRun> runs(ways.size());
    // Whoever comes later finds another machine: each comes first in turn.
    for (size_t i = 0; i < ways.size(); ++i) {
      const size_t way = (p + i) % ways.size();
      runs[way] = DecodeOnce(engine, greedy, ways[way], prompts[p], options.decode_tokens);
      speeds[way].push_back(runs[way].tokens_per_s);
    }
    for (size_t way = 1; way < ways.size(); ++way) {
      CompareTexts(engine, runs[0], runs[way], prompts[p].size(), &results[way]);
    }
  }
  results.erase(results.begin());
  for (size_t i = 0; i < results.size(); ++i) {
    SpeculationResult& result = results[i];
    result.mode = mode;
    result.source = speculators[i]->source_name();
    result.width = speculators[i]->options().max_children;
    std::vector<double> speed_ups;
    for (size_t p = 0; p < prompts.size(); ++p) {
      speed_ups.push_back(speeds[i + 1][p] / speeds[0][p]);
    }
    result.plain_tokens_per_s = SpreadOf(speeds[0]);
    result.tokens_per_s = SpreadOf(speeds[i + 1]);
    result.speed_up = SpreadOf(speed_ups);
    result.plain_ms_per_token = MeanMs(speeds[0]);
    result.ms_per_token = MeanMs(speeds[i + 1]);
    result.n_texts = std::ssize(prompts);
    result.stats = speculators[i]->stats();
  }
  return results;
}

}  // namespace thermocline
