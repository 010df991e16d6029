#include "runtime/sampling/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

[[noreturn]] void FailEmpty(bool masked, size_t n_all) {
  if (masked) {
    throw Error({.what = "no token can come next",
                 .expected = "one that the constraints on the text allow",
                 .found = "none",
                 .hint = "allow more"});
  }
  throw Error({"", "the model's output", "at least one finite logit",
               fmt::format("none among {}", n_all), "the model file or its computation is broken"});
}

// Of any order, several at a time: std::max_element goes one by one.
float Largest(std::span<const float> values) {
  constexpr size_t kAtOnce = 16;
  float most[kAtOnce];
  std::fill(std::begin(most), std::end(most), values.front());
  size_t i = 0;
  for (; i + kAtOnce <= values.size(); i += kAtOnce) {
    for (size_t j = 0; j < kAtOnce; ++j) most[j] = std::max(most[j], values[i + j]);
  }
  for (; i < values.size(); ++i) most[0] = std::max(most[0], values[i]);
  return *std::max_element(std::begin(most), std::end(most));
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options)
    : options_(options),
      random_(options.seed),
      penalties_(options),
      surprise_(2 * static_cast<double>(options.mirostat_tau)) {
  Validate(options);
}

void Sampler::Forget() { penalties_.Forget(); }

void Sampler::Accept(int32_t id) { penalties_.Accept(id); }

bool Sampler::CollectAll(std::span<const float> logits, TokenMask* mask) {
  allowed_.clear();
  if (mask != nullptr && mask->constrains()) {
    allowed_.resize(static_cast<size_t>(TokenMaskWords(static_cast<int64_t>(logits.size()))));
    mask->Fill(allowed_);
  }
  candidates_.Collect(logits, allowed_);
  AddBias();
  return !candidates_.empty();
}

bool Sampler::CollectBest(std::span<const TokenLogit> best, int64_t n_needed, int64_t n,
                          TokenMask* mask) {
  if (mask != nullptr && mask->constrains()) {
    std::vector<TokenLogit> allowed;
    for (const TokenLogit& token : best) {
      if (mask->Allows(token.id)) allowed.push_back(token);
    }
    const auto n_allowed = static_cast<int64_t>(allowed.size());
    const bool all_seen = static_cast<int64_t>(best.size()) < n;
    if (n_allowed < n_needed && !all_seen) return false;
    candidates_.Collect(allowed);
  } else {
    candidates_.Collect(best);
  }
  AddBias();
  return true;
}

bool Sampler::CollectSome(const NextLogits& logits, TokenMask* mask) {
  if (!logits.all.empty()) return CollectAll(logits.all, mask);
  CollectBest(logits.best, 0, logits.n_best, mask);
  return !candidates_.empty();
}

int32_t Sampler::Sample(std::span<const float> logits, TokenMask* mask, const Proposal* proposal) {
  if (const auto best = is_greedy() ? BestUnlisted(logits, mask) : std::nullopt) {
    const TokenLogit chosen[] = {{*best, scores_[static_cast<size_t>(*best)]}};
    candidates_.Collect(chosen);
    candidates_.KeepOnly(*best);
    return *best;
  }
  if (!CollectAll(logits, mask)) {
    FailEmpty(!allowed_.empty() || !options_.logit_bias.empty(), logits.size());
  }
  return Choose(proposal);
}

std::optional<int32_t> Sampler::SampleBest(std::span<const TokenLogit> best, int64_t n,
                                           TokenMask* mask, const Proposal* proposal) {
  const int64_t n_needed = n_deciding();
  CHECK(n_needed > 0 && n >= n_needed);
  if (!CollectBest(best, n_needed, n, mask)) return std::nullopt;
  if (candidates_.empty()) {
    FailEmpty(mask != nullptr || !options_.logit_bias.empty(), best.size());
  }
  return Choose(proposal);
}

std::optional<int32_t> Sampler::SampleNext(const NextLogits& logits, TokenMask* mask,
                                           const Proposal* proposal) {
  if (!logits.all.empty()) return Sample(logits.all, mask, proposal);
  return SampleBest(logits.best, logits.n_best, mask, proposal);
}

Sampler Sampler::WithSeed(uint64_t seed) const {
  Sampler copy(options_);
  copy.random_ = Random(seed);
  copy.penalties_ = penalties_;
  copy.surprise_ = surprise_;
  return copy;
}

std::span<const Candidates::Candidate> Sampler::Chances(const NextLogits& logits, TokenMask* mask) {
  if (!CollectSome(logits, mask)) return {};
  RunSteps();
  if (is_greedy()) {
    candidates_.KeepOnly(candidates_.best());
  } else {
    candidates_.Weigh();
  }
  return candidates_.all();
}

std::optional<int32_t> Sampler::BestUnlisted(std::span<const float> logits, const TokenMask* mask) {
  const bool is_masked = mask != nullptr && mask->constrains();
  if (logits.empty() || is_masked || penalties_.has_recent() || penalties_.has_dry()) return {};
  constexpr float kLeftOut = std::numeric_limits<float>::lowest();
  // x - x is 0 where x is finite, and no number else.
  scores_.resize(logits.size());
  std::ranges::transform(logits, scores_.begin(),
                         [](float x) { return x - x == 0 ? x : kLeftOut; });
  for (const TokenLogit& bias : options_.logit_bias) {
    if (bias.id < 0 || static_cast<size_t>(bias.id) >= scores_.size()) continue;
    float& score = scores_[static_cast<size_t>(bias.id)];
    const float biased = score + bias.logit;
    score = score != kLeftOut && std::isfinite(biased) ? biased : kLeftOut;
  }
  const float most = Largest(scores_);
  if (most == kLeftOut) return {};
  return static_cast<int32_t>(std::ranges::find(scores_, most) - scores_.begin());
}

std::vector<TokenChance> Sampler::Likeliest(const NextLogits& logits, TokenMask* mask, size_t n) {
  if (n == 1) {
    if (const auto best = BestUnlisted(logits.all, mask)) {
      float most = 0;
      const float sum = CpuKernels().exp_scores(scores_.data(), std::ssize(scores_), 1, &most);
      return {{*best, 1 / std::max(1.0, static_cast<double>(sum))}};
    }
  }
  if (!CollectSome(logits, mask)) return {};
  for (const SamplerStep step : options_.steps) {
    if (step == SamplerStep::kPenalties || step == SamplerStep::kDry) Run(step);
  }
  const int32_t id = candidates_.best();
  const double best = candidates_.Find(id)->logit;
  // What is so far below the best adds nothing that a certainty is known by.
  constexpr double kNothing = -16;
  double sum = 0;
  for (const Candidates::Candidate& c : candidates_.all()) {
    if (c.logit - best > kNothing) sum += std::exp(c.logit - best);
  }
  std::vector<TokenChance> likeliest = {{id, 1 / sum}};
  if (n > 1) {
    candidates_.KeepTopK(static_cast<int64_t>(n));
    for (const Candidates::Candidate& c : candidates_.all()) {
      if (c.id != id) likeliest.push_back({c.id, std::exp(c.logit - best) / sum});
    }
    std::sort(likeliest.begin() + 1, likeliest.end(), [](const auto& a, const auto& b) {
      return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
    });
  }
  return likeliest;
}

// What only lowers some tokens leaves the others where they are: the best k behind it are among the
// best k + lowered before. One more tells whether there are more than k at all; Draw() goes by ids
// where there are not.
int64_t Sampler::n_deciding() const {
  int64_t lowered = penalties_.MostLowered();
  if (lowered < 0 || options_.mirostat != 0) return 0;
  for (const TokenLogit& bias : options_.logit_bias) {
    if (bias.logit > 0) return 0;
    ++lowered;
  }
  if (options_.temperature == 0.0F) return 1 + lowered;
  for (const SamplerStep step : options_.steps) {
    switch (step) {
      case SamplerStep::kPenalties:
      case SamplerStep::kDry:
        break;
      case SamplerStep::kTopK:
        if (options_.top_k > 0) {
          return std::max(options_.top_k, options_.min_keep) + lowered + 1;
        }
        break;
      // What these keep depends on the tokens that top-k would have dropped.
      case SamplerStep::kTopNSigma:
        if (options_.top_n_sigma > 0) return 0;
        break;
      case SamplerStep::kTypicalP:
        if (options_.typical_p < 1) return 0;
        break;
      case SamplerStep::kTopP:
        if (options_.top_p < 1) return 0;
        break;
      case SamplerStep::kMinP:
        if (options_.min_p > 0) return 0;
        break;
      case SamplerStep::kXtc:
        if (options_.xtc_probability > 0) return 0;
        break;
      case SamplerStep::kTemperature:
        if (options_.dynatemp_range > 0) return 0;
        break;
    }
  }
  return 0;
}

void Sampler::AddBias() {
  for (const TokenLogit& bias : options_.logit_bias) {
    if (auto* const found = candidates_.Find(bias.id)) found->logit += bias.logit;
  }
  if (!options_.logit_bias.empty()) candidates_.DropNotFinite();
}

void Sampler::RunSteps() {
  if (!uses_mirostat()) {
    for (const SamplerStep step : options_.steps) Run(step);
    return;
  }
  Run(SamplerStep::kPenalties);
  Run(SamplerStep::kDry);
  Heat();
  if (options_.mirostat == 1) {
    candidates_.KeepZipf(surprise_, static_cast<int64_t>(candidates_.size()));
  } else {
    candidates_.KeepSurprise(surprise_);
  }
}

int32_t Sampler::Choose(const Proposal* proposal) {
  RunSteps();
  if (is_greedy()) {
    const int32_t id = candidates_.best();
    candidates_.KeepOnly(id);
    return id;
  }
  const Candidates::Candidate& chosen = Draw(proposal);
  if (uses_mirostat()) {
    const double error = candidates_.BitsOf(chosen) - static_cast<double>(options_.mirostat_tau);
    surprise_ -= static_cast<double>(options_.mirostat_eta) * error;
  }
  return chosen.id;
}

// With a proposal: the first number says whether it is accepted, the second what comes else.
const Candidates::Candidate& Sampler::Draw(const Proposal* proposal) {
  if (proposal == nullptr) return candidates_.Draw(random_.Uniform());
  if (const auto* const accepted =
          candidates_.Accept(proposal->id, proposal->chances, random_.Uniform())) {
    return *accepted;
  }
  return candidates_.DrawRest(proposal->chances, random_.Uniform());
}

void Sampler::Run(SamplerStep step) {
  const auto min_keep = static_cast<size_t>(options_.min_keep);
  if (step == SamplerStep::kPenalties) return penalties_.ApplyRecent(&candidates_);
  if (step == SamplerStep::kDry) return penalties_.ApplyDry(&candidates_);
  if (options_.temperature == 0.0F) return;  // nothing else keeps the best from being chosen
  switch (step) {
    case SamplerStep::kTopNSigma:
      if (options_.top_n_sigma > 0) candidates_.KeepTopNSigma(options_.top_n_sigma);
      return;
    case SamplerStep::kTopK:
      if (options_.top_k > 0) candidates_.KeepTopK(std::max(options_.top_k, options_.min_keep));
      return;
    case SamplerStep::kTypicalP:
      if (options_.typical_p < 1) candidates_.KeepTypical(options_.typical_p, min_keep);
      return;
    case SamplerStep::kTopP:
      return candidates_.KeepTopP(options_.top_p, min_keep);
    case SamplerStep::kMinP:
      return candidates_.KeepMinP(options_.min_p, min_keep);
    case SamplerStep::kXtc:
      if (options_.xtc_probability <= 0 || options_.xtc_threshold > 0.5F) return;
      if (random_.Uniform() >= static_cast<double>(options_.xtc_probability)) return;
      return candidates_.ExcludeTopChoices(options_.xtc_threshold, min_keep);
    case SamplerStep::kTemperature:
      return Heat();
    default:
      return;
  }
}

void Sampler::Heat() {
  float temperature = options_.temperature;
  if (options_.dynatemp_range > 0 && candidates_.size() > 1) {
    const float least = std::max(0.0F, temperature - options_.dynatemp_range);
    const float most = temperature + options_.dynatemp_range;
    const double share = candidates_.Entropy() / std::log(static_cast<double>(candidates_.size()));
    temperature =
        least + (most - least) * static_cast<float>(std::pow(
                                     share, static_cast<double>(options_.dynatemp_exponent)));
  }
  candidates_.Heat(temperature);
}

std::vector<TokenChance> Sampler::LastChances(int64_t n) const {
  return candidates_.Likeliest(static_cast<size_t>(n));
}

double Sampler::LastChanceOf(int32_t id) const { return candidates_.ChanceOf(id); }

}  // namespace thermocline
