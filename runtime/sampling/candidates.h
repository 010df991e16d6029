// The tokens that may come next while a sampler chooses among them, and the steps that drop some.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/token_logit.h"

namespace thermocline {

struct TokenChance {
  int32_t id = 0;
  double probability = 0;
};

class Candidates {
 public:
  struct Candidate {
    float logit;
    int32_t id;
    double weight;  // its probability times a constant that all share, once Weigh was called
  };

  // Fill it with finite logits in the order of ids. allowed: a set of ids (token_mask.h), or empty
  // for all.
  void Collect(std::span<const float> logits, std::span<const uint32_t> allowed);
  void Collect(std::span<const TokenLogit> logits);

  bool empty() const { return all_.empty(); }
  size_t size() const { return all_.size(); }
  std::span<const Candidate> all() const { return all_; }
  // The candidate of an id, or null.
  Candidate* Find(int32_t id);
  // Leaves out those whose logit has become infinite or NaN.
  void DropNotFinite();

  // The likeliest; of equal ones the lowest id. REQUIRES: not empty.
  int32_t best() const;
  // Divides all logits by a temperature of at least 0, which sharpens or flattens their
  // distribution (0: all but the best go down as far as they can).
  void Heat(float temperature);
  // The entropy of their distribution, in nats.
  double Entropy();

  // ---- what drops candidates; none drops all ----
  void KeepTopK(int64_t k);
  // Those whose logits lie at most n standard deviations below the best.
  void KeepTopNSigma(float n);
  // Those whose surprise lies closest to the expected one, up to a probability of p.
  void KeepTypical(float p, size_t min_keep);
  void KeepTopP(float p, size_t min_keep);
  void KeepMinP(float p, size_t min_keep);
  // Drops those of at least `threshold`, but for the least likely of them.
  void ExcludeTopChoices(float threshold, size_t min_keep);
  // Those of at most so many bits of surprise, and the likeliest.
  void KeepSurprise(double bits);
  // Mirostat's first version: as many as a Zipf law fitted to the best 100 says for a text of
  // `bits` per token.
  void KeepZipf(double bits, int64_t vocab_size);

  void KeepOnly(int32_t id);
  // A candidate by its weight. target: in [0, 1).
  const Candidate& Draw(double target);
  // The two halves of a draw against a token that was drawn from other chances (ascending ids, of
  // positive probability, 1 in all). Accept: the candidate of that token, with the probability of
  // min(1, its probability here / there), or null. DrawRest: one by what candidates have more of
  // here than there. target: in [0, 1).
  const Candidate* Accept(int32_t id, std::span<const TokenChance> chances, double target);
  const Candidate& DrawRest(std::span<const TokenChance> chances, double target);
  double Weigh();  // returns the sum of the weights
  // -log2 of its probability. REQUIRES: of the last Draw's candidates.
  double BitsOf(const Candidate& candidate) const;
  // The n likeliest and their probabilities, by the weights that Draw went by.
  std::vector<TokenChance> Likeliest(size_t n) const;
  double ChanceOf(int32_t id) const;

 private:
  void SortBestFirst();
  double total() const;

  std::vector<Candidate> all_;
  bool by_id_ = true;  // in the order of ids
};

}  // namespace thermocline
