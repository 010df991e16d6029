#include "runtime/sampling/text_penalties.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// For each position of the text the length of the stretch that ends there and at the text's end
// alike: the Z function of the reversed text (Gusfield).
std::vector<int64_t> LengthsOfEnds(std::span<const int32_t> text) {
  const size_t n = text.size();
  const auto at = [&](size_t i) { return text[n - 1 - i]; };
  std::vector<int64_t> z(n, 0);
  for (size_t i = 1, left = 0, right = 0; i < n; ++i) {
    if (i < right) {
      z[i] = std::min(static_cast<int64_t>(right - i), z[i - left]);
    }
    while (i + static_cast<size_t>(z[i]) < n &&
           at(static_cast<size_t>(z[i])) == at(i + static_cast<size_t>(z[i]))) {
      ++z[i];
    }
    if (i + static_cast<size_t>(z[i]) > right) {
      left = i;
      right = i + static_cast<size_t>(z[i]);
    }
  }
  std::ranges::reverse(z);
  return z;
}

}  // namespace

std::vector<Repetition> FindRepetitions(std::span<const int32_t> text,
                                        const std::unordered_set<int32_t>& breakers) {
  // No stretch is longer than what follows the last breaker.
  int64_t longest = 0;
  for (auto id = text.rbegin(); id != text.rend() && !breakers.contains(*id); ++id) ++longest;
  if (longest == 0) return {};
  const std::vector<int64_t> lengths = LengthsOfEnds(text);
  std::unordered_map<int32_t, int64_t> best;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    const int64_t length = std::min(lengths[i], longest);
    if (length == 0 || breakers.contains(text[i + 1])) continue;
    int64_t& of_next = best[text[i + 1]];
    of_next = std::max(of_next, length);
  }
  std::vector<Repetition> repetitions;
  for (const auto& [next, length] : best) repetitions.push_back({next, length});
  return repetitions;
}

TextPenalties::TextPenalties(const SamplerOptions& options)
    : options_(options), breakers_(options.dry_breakers.begin(), options.dry_breakers.end()) {}

bool TextPenalties::has_recent() const {
  return options_.repeat_last_n != 0 &&
         (options_.repeat_penalty != 1.0F || options_.presence_penalty != 0 ||
          options_.frequency_penalty != 0);
}

bool TextPenalties::has_dry() const {
  return options_.dry_multiplier > 0 && options_.dry_last_n != 0;
}

int64_t TextPenalties::MostLowered() const {
  int64_t most = 0;
  if (has_recent()) {
    if (options_.repeat_penalty < 1.0F || options_.presence_penalty < 0 ||
        options_.frequency_penalty < 0 || options_.repeat_last_n < 0) {
      return -1;
    }
    most += options_.repeat_last_n;
  }
  if (!has_dry()) return most;
  return options_.dry_last_n < 0 ? -1 : most + options_.dry_last_n;
}

void TextPenalties::Forget() {
  recent_.clear();
  recent_next_ = 0;
  n_recent_.clear();
  text_.clear();
}

void TextPenalties::Accept(int32_t id) {
  CHECK(id >= 0);
  if (has_dry()) {
    text_.push_back(id);
    const auto n_seen = static_cast<size_t>(options_.dry_last_n);
    if (options_.dry_last_n > 0 && text_.size() >= 2 * n_seen) {
      text_.erase(text_.begin(), text_.end() - options_.dry_last_n);
    }
  }
  if (!has_recent()) return;
  ++n_recent_[id];
  if (options_.repeat_last_n < 0) return;
  if (recent_.size() < static_cast<size_t>(options_.repeat_last_n)) {
    recent_.push_back(id);
    return;
  }
  const auto oldest = n_recent_.find(recent_[recent_next_]);
  if (--oldest->second == 0) n_recent_.erase(oldest);
  recent_[recent_next_] = id;
  recent_next_ = (recent_next_ + 1) % recent_.size();
}

float TextPenalties::Penalised(float logit, int64_t n) const {
  const float repeated =
      logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
  const float lowered =
      repeated - options_.presence_penalty - static_cast<float>(n) * options_.frequency_penalty;
  constexpr float kMost = std::numeric_limits<float>::max();
  return std::clamp(lowered, -kMost, kMost);
}

void TextPenalties::ApplyRecent(Candidates* candidates) const {
  for (const auto& [id, n] : n_recent_) {
    if (auto* const found = candidates->Find(id)) found->logit = Penalised(found->logit, n);
  }
}

void TextPenalties::ApplyDry(Candidates* candidates) const {
  if (!has_dry()) return;
  std::span<const int32_t> text = text_;
  if (options_.dry_last_n > 0 && text.size() > static_cast<size_t>(options_.dry_last_n)) {
    text = text.last(static_cast<size_t>(options_.dry_last_n));
  }
  for (const Repetition& repetition : FindRepetitions(text, breakers_)) {
    if (repetition.length < options_.dry_allowed_length) continue;
    auto* const found = candidates->Find(repetition.next);
    if (found == nullptr) continue;
    const auto excess = static_cast<double>(repetition.length - options_.dry_allowed_length);
    const double penalty = static_cast<double>(options_.dry_multiplier) *
                           std::pow(static_cast<double>(options_.dry_base), excess);
    // Beyond any logit, and finite: a token that is all that is left is still chosen.
    constexpr double kMostPenalty = 1e6;
    found->logit -= static_cast<float>(std::min(penalty, kMostPenalty));
  }
}

}  // namespace thermocline
