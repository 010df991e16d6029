// From logits to the next token. The same seed, options and logits give the same tokens on every
// machine: the generator and the mapping to [0, 1) are fixed here and not left to the C++ library.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/core/token_logit.h"

namespace thermocline {

// Names and meaning as in the local-LLM tools people know. Filters run in this order: repetition
// penalty, top-k, (temperature), top-p, min-p.
struct SamplerOptions {
  float temperature = 0.8F;     // 0: greedy
  int32_t top_k = 40;           // 0: off
  float top_p = 0.95F;          // 1: off
  float min_p = 0.05F;          // 0: off; relative to the best token's probability
  float repeat_penalty = 1.0F;  // 1: off; divides positive and multiplies negative logits
  int32_t repeat_last_n = 64;   // tokens the penalty looks back; 0: off, -1: all
  uint64_t seed = 0;
};

// Throws Error for options that make no sense (NaN, negative, top_p outside (0, 1], ...). The
// message names the command line's flag.
void Validate(const SamplerOptions& options);

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  // Tells the sampler a token of the text so far (prompt or generated), for the penalty.
  // REQUIRES: id >= 0.
  void Accept(int32_t id);
  // Forgets all tokens that it was told. The random choices go on.
  void Forget();
  // logits: (vocab_size) f32. Does not call accept. Greedy takes the lowest id of equal logits.
  // Logits that are not finite are left out (-inf is how a caller forbids a token). Throws Error
  // when no logit is finite (the model's output is garbage).
  int32_t Sample(std::span<const float> logits);

  // How many of the best logits (greater first, of equal ones the lower id) decide what Sample
  // returns, now and ever; 0 where all are needed.
  int64_t n_deciding() const;
  // Chooses the token that Sample(logits) would. best: the n_deciding() best finite logits, in any
  // order, or all finite ones where there are fewer.
  int32_t SampleBest(std::span<const TokenLogit> best);

 private:
  struct Candidate {
    float logit;
    int32_t id;
    double weight;  // its probability times a constant that all share
  };
  // Fill candidates_ in the order of ids: penalised, finite ones only.
  void Collect(std::span<const float> logits);
  void CollectBest(std::span<const TokenLogit> best);
  void KeepFinite();
  int32_t Choose();
  float Penalised(float logit) const;
  int32_t best() const;
  void KeepTopK();
  void Weigh();
  void KeepTopP();
  void KeepMinP();
  int32_t Draw();
  double uniform();  // [0, 1)

  SamplerOptions options_;
  uint64_t rng_state_[4];
  std::vector<int32_t> history_;  // ring of the last repeat_last_n tokens; unused when that is -1
  size_t history_next_ = 0;
  std::unordered_map<int32_t, int64_t> n_recent_;  // how often an id stands in the window
  std::vector<Candidate> candidates_;
};

}  // namespace thermocline
