#include "runtime/engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

// A beginning that goes on: its sequence holds all but the last token.
struct Running {
  std::vector<int32_t> ids;
  double sum = 0;  // of log p
  int32_t sequence = 0;
};

// One token more of a beam.
struct Candidate {
  double sum;
  size_t beam;
  int32_t token;
};

class BeamSearch {
 public:
  BeamSearch(Engine& engine, const BeamOptions& options)
      : engine_(engine),
        options_(options),
        vocab_size_(static_cast<size_t>(engine.config().vocab_size)),
        n_beams_(static_cast<size_t>(options.n_beams)) {}
  ~BeamSearch() {
    for (const Running& beam : beams_) engine_.sequences().Remove(beam.sequence);
  }
  BeamSearch(const BeamSearch&) = delete;
  BeamSearch& operator=(const BeamSearch&) = delete;

  std::vector<Beam> Run(std::span<const int32_t> prompt) {
    engine_.Reset();
    const std::span<const float> logits = engine_.Feed(prompt);
    if (options_.prompt_is_read) options_.prompt_is_read();
    beams_.push_back({.ids = {}, .sum = 0, .sequence = Fork(engine_.main_sequence())});
    Choose(logits);
    for (int64_t length = 1; length < options_.max_tokens && !IsDone(); ++length) {
      ThrowIfInterrupted();
      Choose(FeedLastTokens());
    }
    for (const Running& beam : beams_) Finish(beam.ids, beam.sum);
    return std::exchange(finished_, {});
  }

 private:
  int32_t Fork(int32_t sequence) { return engine_.sequences().Fork(sequence); }

  std::span<const float> FeedLastTokens() {
    std::vector<SequenceInput> inputs;
    for (const Running& beam : beams_) {
      inputs.push_back({beam.sequence, {&beam.ids.back(), 1}});
    }
    return engine_.FeedSequences(inputs);
  }

  // Adds the likeliest tokens of one beam. Twice as many as there are beams are enough: at most one
  // in each beam ends it.
  void AddCandidates(size_t beam, std::span<const float> logits, std::vector<Candidate>* to) const {
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
    const double log_sum = largest + std::log(sum);
    std::vector<int32_t> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    const size_t n = std::min(logits.size(), (1 + options_.ends.size()) * n_beams_);
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(n), order.end(),
                      [&](int32_t a, int32_t b) {
                        const float x = logits[static_cast<size_t>(a)];
                        const float y = logits[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    for (size_t i = 0; i < n; ++i) {
      const double log_p = logits[static_cast<size_t>(order[i])] - log_sum;
      to->push_back({beams_[beam].sum + log_p, beam, order[i]});
    }
  }

  // Puts the best beginnings that are one token longer in the place of the beams. One that ends
  // counts only among the n_beams best.
  void Choose(std::span<const float> logits) {
    std::vector<Candidate> candidates;
    for (size_t b = 0; b < beams_.size(); ++b) {
      AddCandidates(b, logits.subspan(b * vocab_size_, vocab_size_), &candidates);
    }
    std::ranges::stable_sort(candidates, std::greater<>(), &Candidate::sum);
    std::vector<Candidate> kept;
    for (size_t rank = 0; rank < candidates.size() && kept.size() < n_beams_; ++rank) {
      const Candidate& candidate = candidates[rank];
      if (std::ranges::find(options_.ends, candidate.token) == options_.ends.end()) {
        kept.push_back(candidate);
      } else if (rank < n_beams_) {
        Finish(Longer(candidate), candidate.sum);
      }
    }
    TakeUp(kept);
  }

  std::vector<int32_t> Longer(const Candidate& candidate) const {
    std::vector<int32_t> ids = beams_[candidate.beam].ids;
    ids.push_back(candidate.token);
    return ids;
  }

  // The last that goes on from a beam takes over its sequence, the others fork it.
  void TakeUp(const std::vector<Candidate>& kept) {
    std::vector<size_t> uses(beams_.size());
    for (const Candidate& candidate : kept) ++uses[candidate.beam];
    std::vector<Running> next;
    std::vector<int32_t> taken_over;
    for (const Candidate& candidate : kept) {
      const int32_t sequence = beams_[candidate.beam].sequence;
      const bool last = --uses[candidate.beam] == 0;
      next.push_back({Longer(candidate), candidate.sum, last ? sequence : Fork(sequence)});
      if (last) taken_over.push_back(sequence);
    }
    for (const Running& beam : beams_) {
      if (std::ranges::find(taken_over, beam.sequence) == taken_over.end()) {
        engine_.sequences().Remove(beam.sequence);
      }
    }
    beams_ = std::move(next);
  }

  double Score(double sum, size_t length) const {
    return sum / std::pow(static_cast<double>(length), options_.length_penalty);
  }

  // Keeps the n_beams best that are finished, best first.
  void Finish(std::vector<int32_t> ids, double sum) {
    const double score = Score(sum, ids.size());
    const auto behind =
        std::ranges::find_if(finished_, [&](const Beam& beam) { return beam.score < score; });
    finished_.insert(behind, {std::move(ids), score});
    if (finished_.size() > n_beams_) finished_.pop_back();
  }

  bool IsDone() const {
    if (beams_.empty()) return true;
    if (finished_.size() < n_beams_) return false;
    return finished_.back().score >= Score(beams_.front().sum, beams_.front().ids.size());
  }

  Engine& engine_;
  const BeamOptions& options_;
  size_t vocab_size_;
  size_t n_beams_;
  std::vector<Running> beams_;  // the likeliest first
  std::vector<Beam> finished_;
};

}  // namespace

std::vector<Beam> SearchBeams(Engine& engine, std::span<const int32_t> prompt,
                              const BeamOptions& options) {
  CHECK(!prompt.empty() && options.n_beams >= 1 && options.max_tokens >= 1);
  return BeamSearch(engine, options).Run(prompt);
}

}  // namespace thermocline
