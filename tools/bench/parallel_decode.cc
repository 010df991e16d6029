#include "tools/bench/parallel_decode.h"

#include <chrono>

#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"

namespace thermocline {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

struct DecodeRun {
  std::vector<BestToken> tokens;  // tokens of the first sequence
  double tokens_per_s = 0;        // of all sequences together
};

// Feeds the sequences' prompts one after the other, then makes a pass per token.
DecodeRun DecodeTogether(Engine& engine, int64_t n_sequences, const Prompts& prompts, size_t first,
                         int64_t decode_tokens) {
  const auto width = static_cast<size_t>(engine.config().vocab_size);
  KvSequences& kv = engine.sequences();
  engine.Reset();
  std::vector<SequenceInput> inputs;
  std::vector<BestToken> next;
  for (size_t i = 0; i < static_cast<size_t>(n_sequences); ++i) {
    const int32_t id = i == 0 ? engine.main_sequence() : kv.Add();
    inputs.push_back({id, prompts[(first + i) % prompts.size()]});
    next.push_back(FindBest(engine.FeedSequences({&inputs.back(), 1})));
  }
  DecodeRun run;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t t = 0; t < decode_tokens; ++t) {
    ThrowIfInterrupted();
    run.tokens.push_back(next.front());
    for (size_t i = 0; i < inputs.size(); ++i) inputs[i].ids = {&next[i].id, 1};
    const auto logits = engine.FeedSequences(inputs);
    for (size_t i = 0; i < inputs.size(); ++i) next[i] = FindBest(logits.subspan(i * width, width));
  }
  const auto time = std::chrono::steady_clock::now() - start;
  run.tokens_per_s = static_cast<double>(decode_tokens * n_sequences) /
                     std::chrono::duration<double>(time).count();
  for (size_t i = 1; i < inputs.size(); ++i) kv.Remove(inputs[i].sequence);
  return run;
}

void Compare(const DecodeRun& alone, const DecodeRun& among, ParallelResult* result) {
  result->tokens_compared += static_cast<int64_t>(alone.tokens.size());
  for (size_t t = 0; t < alone.tokens.size(); ++t) {
    if (alone.tokens[t].id != among.tokens[t].id) {
      result->first_difference_margins.push_back(alone.tokens[t].margin);
      return;
    }
    ++result->tokens_identical;
  }
}

}  // namespace

ParallelResult MeasureParallel(Engine& engine, SparseMode mode, int64_t n_sequences,
                               const Prompts& prompts, int64_t decode_tokens) {
  ParallelResult result;
  result.mode = mode;
  result.n_sequences = n_sequences;
  engine.executor().set_mode(mode);
  std::vector<double> one, all, times;
  DecodeTogether(engine, n_sequences, prompts, 0, 1);  // warms up
  for (size_t round = 0; round < prompts.size(); ++round) {
    const DecodeRun alone = DecodeTogether(engine, 1, prompts, round, decode_tokens);
    const DecodeRun among = DecodeTogether(engine, n_sequences, prompts, round, decode_tokens);
    one.push_back(alone.tokens_per_s);
    all.push_back(among.tokens_per_s);
    times.push_back(among.tokens_per_s / alone.tokens_per_s);
    Compare(alone, among, &result);
  }
  result.one_tokens_per_s = SpreadOf(one);
  result.all_tokens_per_s = SpreadOf(all);
  result.times_one = SpreadOf(times);
  return result;
}

}  // namespace thermocline
