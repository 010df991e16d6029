// From logits to the next token. The same seed, options and logits give the same tokens on every
// machine (runtime/sampling/random.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/core/token_logit.h"
#include "runtime/sampling/candidates.h"
#include "runtime/sampling/random.h"
#include "runtime/sampling/sampler_options.h"
#include "runtime/sampling/text_penalties.h"
#include "runtime/sampling/token_mask.h"

namespace thermocline {

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  // Tells the sampler a token of the text so far (prompt or generated), for the penalties.
  // REQUIRES: id >= 0.
  void Accept(int32_t id);
  // Forgets all tokens that it was told. The random choices go on.
  void Forget();
  // logits: (vocab_size) f32. Calls no Accept, neither its own nor the mask's. Greedy takes the
  // lowest id of equal logits. Logits that are not finite are left out, and so is what the mask
  // forbids (null: nothing). Throws Error when no token is left.
  int32_t Sample(std::span<const float> logits, TokenMask* mask = nullptr);

  // How many of the best logits (greater first, of equal ones the lower id) decide what Sample
  // returns without a mask, now and ever; 0 where all are needed.
  int64_t n_deciding() const;
  // Chooses the token that Sample(logits, mask) would, or none where the mask forbids so many of
  // the best that others decide. best: the n best finite logits, in any order, or all finite ones
  // where there are fewer. REQUIRES: n >= n_deciding() > 0.
  std::optional<int32_t> SampleBest(std::span<const TokenLogit> best, int64_t n,
                                    TokenMask* mask = nullptr);

  // What the last token was drawn from, the likeliest first, with probabilities that add up to 1;
  // at most n tokens.
  std::vector<TokenChance> LastChances(int64_t n) const;
  double LastChanceOf(int32_t id) const;

 private:
  int32_t Choose();
  int32_t ChooseByMirostat();
  void Run(SamplerStep step);
  void Heat();
  void AddBias();

  SamplerOptions options_;
  Random random_;
  TextPenalties penalties_;
  std::vector<uint32_t> allowed_;  // a mask's, while a token is chosen
  Candidates candidates_;
  double surprise_;  // the most that mirostat lets a token have now, in bits
};

}  // namespace thermocline
