#include "tools/bench/speculative_decode.h"

#include <algorithm>
#include <limits>

#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"
#include "runtime/engine/generate.h"

namespace thermocline {
namespace {

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

SpeculationResult MeasureSpeculation(Engine& engine, SparseMode mode, Speculator& speculator,
                                     const std::vector<std::vector<int32_t>>& prompts,
                                     const ComparisonOptions& options) {
  SpeculationResult result;
  result.mode = mode;
  result.source = speculator.source_name();
  engine.executor().set_mode(mode);
  SamplerOptions greedy;
  greedy.temperature = 0;
  for (int32_t id = 0; id < engine.config().vocab_size; ++id) {
    if (engine.tokenizer().EndsText(id)) {
      greedy.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
    }
  }
  std::vector<double> plain_speeds, speeds, speed_ups;
  DecodeOnce(engine, greedy, nullptr, prompts.front(), 2);  // warms up
  for (size_t p = 0; p < prompts.size(); ++p) {
    Report(options.progress, "drafting (prompts)", p, prompts.size());
    const auto decode = [&](Speculator* with) {
      return DecodeOnce(engine, greedy, with, prompts[p], options.decode_tokens);
    };
    SpeculativeRun plain, drafted;
    // Whoever comes second finds another machine.
    if (p % 2 == 0) plain = decode(nullptr);
    drafted = decode(&speculator);
    if (p % 2 == 1) plain = decode(nullptr);
    plain_speeds.push_back(plain.tokens_per_s);
    speeds.push_back(drafted.tokens_per_s);
    speed_ups.push_back(drafted.tokens_per_s / plain.tokens_per_s);
    CompareTexts(engine, plain, drafted, prompts[p].size(), &result);
  }
  result.plain_tokens_per_s = SpreadOf(plain_speeds);
  result.tokens_per_s = SpreadOf(speeds);
  result.speed_up = SpreadOf(speed_ups);
  result.stats = speculator.stats();
  return result;
}

}  // namespace thermocline
