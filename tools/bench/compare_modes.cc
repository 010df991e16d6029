#include "tools/bench/compare_modes.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One prompt in one mode.
struct PromptRun {
  double prefill_s = 0;
  double decode_s = 0;
  std::vector<int32_t> ids;
  std::vector<float> margins;
};

struct ModeRuns {
  std::vector<double> prefill_speed;
  std::vector<double> decode_speed;
  std::vector<double> speed_up;
  FfnCounts counts;
  FfnCounts audited;
  int64_t compared = 0;
  int64_t identical = 0;
  double kl_sum = 0;
  int64_t kl_tokens = 0;
  std::vector<float> margins;
};

class Comparison {
 public:
  Comparison(Engine& engine, const ComparisonOptions& options)
      : engine_(engine),
        options_(options),
        vocab_(static_cast<size_t>(engine.config().vocab_size)) {
    baseline_logits_.resize(static_cast<size_t>(options.decode_tokens) * vocab_);
  }

  // Runs one prompt. The baseline's logits are stored, and another mode's are compared with them
  // while the two were fed the same tokens. `follow`: the mode is fed the tokens of `against`.
  PromptRun Run(const std::vector<int32_t>& prompt, bool baseline, const PromptRun* against,
                bool follow, ModeRuns* runs) {
    PromptRun run;
    engine_.Reset();
    engine_.executor().ResetCounts();
    auto start = Clock::now();
    auto logits = engine_.Feed(prompt);
    run.prefill_s = SecondsSince(start);
    engine_.executor().ResetCounts();  // a prompt of one token was a decode pass; it is not counted
    bool same = against != nullptr;
    for (int64_t i = 0; i < options_.decode_tokens; ++i) {
      ThrowIfInterrupted();
      const auto at = static_cast<size_t>(i);
      float* kept = baseline_logits_.data() + at * vocab_;
      if (baseline) std::copy(logits.begin(), logits.end(), kept);
      if (same) {
        runs->kl_sum += KlDivergence({kept, vocab_}, logits);
        ++runs->kl_tokens;
      }
      const BestToken best = FindBest(logits);
      run.ids.push_back(best.id);
      run.margins.push_back(best.margin);
      same = same && (follow || best.id == against->ids[at]);
      const int32_t next = follow ? against->ids[at] : best.id;
      start = Clock::now();
      logits = engine_.Feed({&next, 1});
      run.decode_s += SecondsSince(start);
    }
    return run;
  }

  // Runs a prompt once, so that what ran before (a bandwidth measurement, another mode) does not
  // cost the first mode its cache.
  void WarmUp(const std::vector<int32_t>& prompt) {
    engine_.Reset();
    engine_.Feed(prompt);
  }

  static void CompareTokens(const PromptRun& baseline, const PromptRun& run, ModeRuns* runs) {
    const auto [a, b] = std::mismatch(baseline.ids.begin(), baseline.ids.end(), run.ids.begin());
    const auto agreed = static_cast<size_t>(a - baseline.ids.begin());
    runs->compared += static_cast<int64_t>(baseline.ids.size());
    runs->identical += static_cast<int64_t>(agreed);
    if (b != run.ids.end()) runs->margins.push_back(baseline.margins[agreed]);
  }
  // Counts tokens of a run that followed the baseline.
  static void CountEqual(const PromptRun& baseline, const PromptRun& run, ModeRuns* runs) {
    runs->compared += static_cast<int64_t>(baseline.ids.size());
    for (size_t i = 0; i < run.ids.size(); ++i) {
      runs->identical += baseline.ids[i] == run.ids[i] ? 1 : 0;
    }
  }

  // Goes over the baseline's tokens once more to count what the predictor misses.
  void Audit(const std::vector<int32_t>& prompt, const PromptRun& baseline, FfnCounts* audited) {
    ModeRuns ignored;
    engine_.executor().set_audit(true);
    Run(prompt, false, &baseline, true, &ignored);
    engine_.executor().set_audit(false);
    audited->Add(engine_.executor().counts());
  }

 private:
  Engine& engine_;
  const ComparisonOptions& options_;
  size_t vocab_;
  std::vector<float> baseline_logits_;  // (decode_tokens, vocab_size) of the prompt at hand
};

ModeResult Summarise(const Engine& engine, SparseMode mode, const ModeRuns& runs) {
  ModeResult result;
  result.mode = mode;
  result.prefill_tokens_per_s = SpreadOf(runs.prefill_speed);
  result.decode_tokens_per_s = SpreadOf(runs.decode_speed);
  result.decode_speeds = runs.decode_speed;
  result.speed_up = SpreadOf(runs.speed_up);
  result.touched = TouchedPerToken(engine, runs.counts, mode);
  result.read_bytes_per_s = result.touched.bytes * result.decode_tokens_per_s.median;
  result.followed = IsLossy(mode);
  if (!runs.audited.layers.empty()) result.recall = runs.audited.Sum().Recall();
  result.tokens_compared = runs.compared;
  result.tokens_identical = runs.identical;
  result.mean_kl = runs.kl_tokens == 0 ? 0 : runs.kl_sum / static_cast<double>(runs.kl_tokens);
  result.first_difference_margins = runs.margins;
  return result;
}

}  // namespace

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double position = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(position);
    const size_t above = std::min(below + 1, values.size() - 1);
    const double weight = position - static_cast<double>(below);
    return values[below] * (1 - weight) + values[above] * weight;
  };
  return {at(0.5), at(0.1), at(0.9)};
}

std::vector<std::vector<int32_t>> CutPrompts(const Tokenizer& tokenizer,
                                             std::span<const int32_t> ids,
                                             const ComparisonOptions& options) {
  const bool bos = tokenizer.bos_id() >= 0 && tokenizer.add_bos();
  const auto length = static_cast<size_t>(options.prompt_tokens - (bos ? 1 : 0));
  const size_t needed = length * static_cast<size_t>(options.n_prompts);
  if (length == 0 || ids.size() < needed) {
    throw Error({.what = "the text is too short for the prompts",
                 .expected = fmt::format("{} tokens for {} prompts of {}", needed,
                                         options.n_prompts, options.prompt_tokens),
                 .found = std::to_string(ids.size()),
                 .hint = "use a longer text, fewer --prompts or a smaller --prompt-tokens"});
  }
  std::vector<std::vector<int32_t>> prompts;
  for (size_t p = 0; p < static_cast<size_t>(options.n_prompts); ++p) {
    std::vector<int32_t> prompt;
    if (bos) prompt.push_back(tokenizer.bos_id());
    const auto part = ids.subspan(p * length, length);
    prompt.insert(prompt.end(), part.begin(), part.end());
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

std::vector<ModeResult> CompareModes(Engine& engine, const std::vector<SparseMode>& modes,
                                     const std::vector<std::vector<int32_t>>& prompts,
                                     const ComparisonOptions& options) {
  Comparison comparison(engine, options);
  std::vector<ModeRuns> runs(modes.size());
  for (const SparseMode mode :
       modes) {  // first touch of weights and buffers is not what is measured
    engine.executor().set_mode(mode);
    ModeRuns ignored;
    comparison.Run(prompts.front(), false, nullptr, false, &ignored);
  }
  for (size_t p = 0; p < prompts.size(); ++p) {
    Report(options.progress, "comparing modes", p, prompts.size());
    if (options.before_prompt) options.before_prompt();
    comparison.WarmUp(prompts[p]);
    PromptRun baseline;
    for (size_t m = 0; m < modes.size(); ++m) {
      engine.executor().set_mode(modes[m]);
      const bool follow = IsLossy(modes[m]);
      PromptRun run =
          comparison.Run(prompts[p], m == 0, m == 0 ? nullptr : &baseline, follow, &runs[m]);
      runs[m].counts.Add(engine.executor().counts());
      const auto n_prompt = static_cast<double>(prompts[p].size());
      runs[m].prefill_speed.push_back(n_prompt / run.prefill_s);
      runs[m].decode_speed.push_back(static_cast<double>(run.ids.size()) / run.decode_s);
      if (m == 0) {
        baseline = std::move(run);
        runs[m].speed_up.push_back(1);
      } else {
        runs[m].speed_up.push_back(baseline.decode_s / run.decode_s);
        follow ? Comparison::CountEqual(baseline, run, &runs[m])
               : Comparison::CompareTokens(baseline, run, &runs[m]);
        if (modes[m] == SparseMode::kPredicted) {
          comparison.Audit(prompts[p], baseline, &runs[m].audited);
        }
      }
    }
  }
  Report(options.progress, "comparing modes", prompts.size(), prompts.size());
  std::vector<ModeResult> results;
  for (size_t m = 0; m < modes.size(); ++m) results.push_back(Summarise(engine, modes[m], runs[m]));
  for (ModeResult& result : results) {
    result.byte_bound = results.front().touched.bytes / result.touched.bytes;
  }
  return results;
}

}  // namespace thermocline
