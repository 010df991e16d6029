#include "runtime/sampling/sampler_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

struct StepName {
  SamplerStep step;
  char letter;
  std::string_view name;
};

// In the order in which they usually run.
constexpr StepName kSteps[] = {
    {SamplerStep::kPenalties, 'e', "penalties"},
    {SamplerStep::kDry, 'd', "dry"},
    {SamplerStep::kTopNSigma, 's', "top_n_sigma"},
    {SamplerStep::kTopK, 'k', "top_k"},
    {SamplerStep::kTypicalP, 'y', "typ_p"},
    {SamplerStep::kTopP, 'p', "top_p"},
    {SamplerStep::kMinP, 'm', "min_p"},
    {SamplerStep::kXtc, 'x', "xtc"},
    {SamplerStep::kTemperature, 't', "temperature"},
};

template <typename T>
void Require(bool holds, Setting setting, const char* expected, T found) {
  if (holds) return;
  throw Error({.what = std::string(SettingName(setting)),
               .expected = expected,
               .found = fmt::format("{}", found),
               .settings = {{setting}}});
}

void RequireFinite(float value, Setting setting) {
  Require(std::isfinite(value), setting, "a finite number", value);
}

void RequireAtLeast0(float value, Setting setting) {
  Require(value >= 0 && std::isfinite(value), setting, "a number of at least 0", value);
}

void RequireShare(float value, Setting setting) {
  Require(value >= 0 && value <= 1, setting, "a number in [0, 1]", value);
}

void ValidatePenalties(const SamplerOptions& options) {
  Require(options.repeat_penalty > 0 && std::isfinite(options.repeat_penalty),
          Setting::kRepeatPenalty, "a number above 0", options.repeat_penalty);
  Require(options.repeat_last_n >= -1, Setting::kRepeatLastN, "a whole number of at least -1",
          options.repeat_last_n);
  RequireFinite(options.presence_penalty, Setting::kPresencePenalty);
  RequireFinite(options.frequency_penalty, Setting::kFrequencyPenalty);
  RequireAtLeast0(options.dry_multiplier, Setting::kDryMultiplier);
  Require(options.dry_base >= 1 && std::isfinite(options.dry_base), Setting::kDryBase,
          "a number of at least 1", options.dry_base);
  Require(options.dry_allowed_length >= 0, Setting::kDryAllowedLength,
          "a whole number of at least 0", options.dry_allowed_length);
  Require(options.dry_last_n >= -1, Setting::kDryLastN, "a whole number of at least -1",
          options.dry_last_n);
}

void ValidateSteps(const SamplerOptions& options) {
  for (size_t i = 0; i < options.steps.size(); ++i) {
    const SamplerStep step = options.steps[i];
    const bool again =
        std::find(options.steps.begin(), options.steps.begin() + static_cast<ptrdiff_t>(i), step) !=
        options.steps.begin() + static_cast<ptrdiff_t>(i);
    Require(!again, Setting::kSamplers, "each sampler once", SamplerStepName(step));
  }
  for (const TokenLogit& bias : options.logit_bias) {
    Require(!std::isnan(bias.logit) && bias.logit < HUGE_VALF, Setting::kLogitBias,
            "a number, or -infinity", bias.logit);
  }
}

}  // namespace

std::string_view SamplerStepName(SamplerStep step) {
  return std::ranges::find(kSteps, step, &StepName::step)->name;
}

std::optional<SamplerStep> SamplerStepOf(std::string_view name) {
  if (name == "typical_p") return SamplerStep::kTypicalP;
  for (const StepName& step : kSteps) {
    if (step.name == name) return step.step;
  }
  return std::nullopt;
}

std::optional<SamplerStep> SamplerStepOf(char letter) {
  for (const StepName& step : kSteps) {
    if (step.letter == letter) return step.step;
  }
  return std::nullopt;
}

std::vector<SamplerStep> DefaultSamplerSteps() {
  std::vector<SamplerStep> steps;
  for (const StepName& step : kSteps) steps.push_back(step.step);
  return steps;
}

void Validate(const SamplerOptions& options) {
  // Written so that NaN fails each of them.
  RequireAtLeast0(options.temperature, Setting::kTemperature);
  Require(options.top_k >= 0, Setting::kTopK, "a whole number of at least 0", options.top_k);
  Require(options.top_p > 0 && options.top_p <= 1, Setting::kTopP, "a number in (0, 1]",
          options.top_p);
  RequireShare(options.min_p, Setting::kMinP);
  Require(options.typical_p > 0 && options.typical_p <= 1, Setting::kTypicalP, "a number in (0, 1]",
          options.typical_p);
  RequireFinite(options.top_n_sigma, Setting::kTopNSigma);
  RequireShare(options.xtc_probability, Setting::kXtcProbability);
  RequireShare(options.xtc_threshold, Setting::kXtcThreshold);
  RequireAtLeast0(options.dynatemp_range, Setting::kDynatempRange);
  RequireAtLeast0(options.dynatemp_exponent, Setting::kDynatempExponent);
  Require(options.mirostat >= 0 && options.mirostat <= 2, Setting::kMirostat, "0, 1 or 2",
          options.mirostat);
  RequireAtLeast0(options.mirostat_tau, Setting::kMirostatTau);
  RequireShare(options.mirostat_eta, Setting::kMirostatEta);
  Require(options.min_keep >= 0, Setting::kMinKeep, "a whole number of at least 0",
          options.min_keep);
  ValidatePenalties(options);
  ValidateSteps(options);
}

}  // namespace thermocline
