// How the next token is chosen from the logits: what people set in local-LLM tools, with the names
// and the meaning that it has there.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "runtime/core/token_logit.h"

namespace thermocline {

// Steps from the logits to what a token is drawn from. Each drops tokens or changes logits.
enum class SamplerStep : uint8_t {
  kPenalties,
  kDry,
  kTopNSigma,
  kTopK,
  kTypicalP,
  kTopP,
  kMinP,
  kXtc,
  kTemperature,
};

// `top_k`, `typ_p`, ...: as the field `samplers` of a request has it.
std::string_view SamplerStepName(SamplerStep step);
// The step of a name (also `typical_p`), or of a letter of a sequence as in `edskypmxt`.
std::optional<SamplerStep> SamplerStepOf(std::string_view name);
std::optional<SamplerStep> SamplerStepOf(char letter);
// All of them, in the order in which they usually run.
std::vector<SamplerStep> DefaultSamplerSteps();

struct SamplerOptions {
  float temperature = 0.8F;  // 0: greedy, which penalties and biases still bear on
  int32_t top_k = 40;        // 0: off
  float top_p = 0.95F;       // 1: off
  float min_p = 0.05F;       // 0: off; relative to the best token's probability
  // What lowers the logits of tokens that stand among the last repeat_last_n ones.
  float repeat_penalty = 1.0F;     // 1: off; divides positive and multiplies negative logits
  int32_t repeat_last_n = 64;      // 0: off, -1: all
  float presence_penalty = 0;      // subtracted once
  float frequency_penalty = 0;     // subtracted as often as the token stands there
  float typical_p = 1.0F;          // 1: off (Meister et al., arXiv:2202.00666)
  float top_n_sigma = -1.0F;       // 0 or less: off (arXiv:2411.07641)
  float xtc_probability = 0;       // 0: off; how often the best choices are excluded
  float xtc_threshold = 0.1F;      // above 0.5: off
  float dynatemp_range = 0;        // 0: off; temperature moves by so much with the entropy
  float dynatemp_exponent = 1.0F;  // of the entropy's share of what it could be
  // Don't Repeat Yourself: what would go on with a repetition of n >= dry_allowed_length tokens is
  // lowered by dry_multiplier * dry_base^(n - dry_allowed_length).
  float dry_multiplier = 0;  // 0: off
  float dry_base = 1.75F;
  int32_t dry_allowed_length = 2;
  int32_t dry_last_n = -1;                 // tokens that are looked at; 0: off, -1: all
  std::vector<int32_t> dry_breakers = {};  // no repetition goes on across one of these tokens
  // Keeps the surprise of the text near a target, in place of all that drops tokens (Basu et al.,
  // arXiv:2007.14966). 0: off, or version 1 or 2.
  int32_t mirostat = 0;
  float mirostat_tau = 5.0F;  // the target, in bits per token
  float mirostat_eta = 0.1F;  // how fast it is learnt
  // What typical_p, top_p, min_p and XTC leave at least.
  int32_t min_keep = 0;
  uint64_t seed = 0;
  std::vector<SamplerStep> steps = DefaultSamplerSteps();
  // Added to logits first of all. -infinity forbids a token. Of ids that are not the vocabulary's
  // nothing comes.
  std::vector<TokenLogit> logit_bias = {};
};

// Throws Error for options that make no sense (NaN, negative, top_p outside (0, 1], a step twice,
// ...). The message names the settings.
void Validate(const SamplerOptions& options);

}  // namespace thermocline
