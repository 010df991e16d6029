// From logits to the next token. The same seed, options and logits give the same tokens on every
// machine (runtime/sampling/random.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/core/token_logit.h"
#include "runtime/sampling/candidates.h"
#include "runtime/sampling/next_logits.h"
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
  //
  // proposal: a token that a draft drew, independently of what this sampler draws. It is returned
  // as often as both distributions have it, and else one from what the sampler's own has more of
  // than the draft's: the token that is returned has the sampler's distribution, whatever the
  // draft's is (Leviathan et al., arXiv:2211.17192). With greedy and null it plays no part.
  int32_t Sample(std::span<const float> logits, TokenMask* mask = nullptr,
                 const Proposal* proposal = nullptr);

  // How many of the best logits (greater first, of equal ones the lower id) decide what Sample
  // returns without a mask, now and ever; 0 where all are needed.
  int64_t n_deciding() const;
  // Chooses the token that Sample(logits, mask) would, or none where the mask forbids so many of
  // the best that others decide. best: the n best finite logits, in any order, or all finite ones
  // where there are fewer. REQUIRES: n >= n_deciding() > 0.
  std::optional<int32_t> SampleBest(std::span<const TokenLogit> best, int64_t n,
                                    TokenMask* mask = nullptr, const Proposal* proposal = nullptr);
  // One of both, by what there is; none where SampleBest has none.
  std::optional<int32_t> SampleNext(const NextLogits& logits, TokenMask* mask = nullptr,
                                    const Proposal* proposal = nullptr);

  // ---- for drafts, which guess what Sample will return ----

  // A sampler that knows the same text and draws other numbers.
  Sampler WithSeed(uint64_t seed) const;
  bool is_greedy() const { return options_.temperature == 0.0F; }
  // What the next token would be drawn from, by these logits: (any number), in no order. Where only
  // the best logits are there, as if they were all. None where no token is left.
  std::span<const Candidates::Candidate> Chances(const NextLogits& logits, TokenMask* mask);
  // The n likeliest tokens behind biases, mask and penalties, the likeliest first, and their
  // probabilities before anything is dropped. Fewer where fewer tokens are left.
  std::vector<TokenChance> Likeliest(const NextLogits& logits, TokenMask* mask, size_t n = 1);

  // What the last token was drawn from, the likeliest first, with probabilities that add up to 1;
  // at most n tokens.
  std::vector<TokenChance> LastChances(int64_t n) const;
  double LastChanceOf(int32_t id) const;

 private:
  // Collects what may come; false: nothing may.
  bool CollectAll(std::span<const float> logits, TokenMask* mask);
  // Returns false where a mask forbids so many that others decide.
  bool CollectBest(std::span<const TokenLogit> best, int64_t n_needed, int64_t n, TokenMask* mask);
  // Collects what there is, deciding or not, for a draft; false: nothing may come.
  bool CollectSome(const NextLogits& logits, TokenMask* mask);
  // The likeliest where nothing but biases changes logits, which takes no list of all of them; none
  // where it takes more. scores_ then has what the logits are behind biases.
  std::optional<int32_t> BestUnlisted(std::span<const float> logits, const TokenMask* mask);
  int32_t Choose(const Proposal* proposal);
  // Leaves the candidates that a token is drawn from.
  void RunSteps();
  const Candidates::Candidate& Draw(const Proposal* proposal);
  bool uses_mirostat() const { return options_.mirostat != 0 && !is_greedy(); }
  void Run(SamplerStep step);
  void Heat();
  void AddBias();

  SamplerOptions options_;
  Random random_;
  TextPenalties penalties_;
  std::vector<uint32_t> allowed_;  // a mask's, while a token is chosen
  Candidates candidates_;
  std::vector<float> scores_;  // BestUnlisted's
  double surprise_;            // the most that mirostat lets a token have now, in bits
};

}  // namespace thermocline
