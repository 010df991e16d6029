// What lowers the logits of tokens because of the text so far: the penalties on recent tokens, and
// DRY on those that would go on with a repetition.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/sampling/candidates.h"
#include "runtime/sampling/sampler_options.h"

namespace thermocline {

// A token, and the length of the longest repetition that it would go on with.
struct Repetition {
  int32_t next = 0;
  int64_t length = 0;
};

// All tokens that would go on with a repetition at the end of the text: where the last n tokens
// stand earlier in it, what follows there. No repetition has a breaker in it or goes on with one.
// Each token once, with its longest. Takes time in proportion to the text.
std::vector<Repetition> FindRepetitions(std::span<const int32_t> text,
                                        const std::unordered_set<int32_t>& breakers);

class TextPenalties {
 public:
  explicit TextPenalties(const SamplerOptions& options);
  void Accept(int32_t id);
  void Forget();

  // Each changes the logits of candidates as they were collected.
  void ApplyRecent(Candidates* candidates) const;
  void ApplyDry(Candidates* candidates) const;

  bool has_recent() const;
  bool has_dry() const;
  // Most tokens whose logits they lower; -1: any number, or some are raised.
  int64_t MostLowered() const;

 private:
  float Penalised(float logit, int64_t n) const;

  SamplerOptions options_;
  std::unordered_set<int32_t> breakers_;
  std::vector<int32_t> recent_;  // ring of the last repeat_last_n tokens; unused when that is -1
  size_t recent_next_ = 0;
  std::unordered_map<int32_t, int64_t> n_recent_;  // how often an id stands in the window
  std::vector<int32_t> text_;                      // what DRY looks at, or a little more
};

}  // namespace thermocline
