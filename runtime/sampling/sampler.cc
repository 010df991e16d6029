#include "runtime/engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Sebastiano Vigna's splitmix64: spreads a seed of few set bits over the generator's whole state.
uint64_t Splitmix64(uint64_t* state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// xoshiro256** 1.0 (Blackman and Vigna, arXiv:1805.01407).
uint64_t Xoshiro256(uint64_t state[4]) {
  const uint64_t result = std::rotl(state[1] * 5, 7) * 9;
  const uint64_t t = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= t;
  state[3] = std::rotl(state[3], 45);
  return result;
}

template <typename T>
void Require(bool holds, Setting setting, const char* expected, T found) {
  if (holds) return;
  throw Error({.what = std::string(SettingName(setting)),
               .expected = expected,
               .found = fmt::format("{}", found),
               .settings = {{setting}}});
}

}  // namespace

void Validate(const SamplerOptions& options) {
  // Written so that NaN fails each of them.
  Require(options.temperature >= 0 && std::isfinite(options.temperature), Setting::kTemperature,
          "a number of at least 0", options.temperature);
  Require(options.top_k >= 0, Setting::kTopK, "a whole number of at least 0", options.top_k);
  Require(options.top_p > 0 && options.top_p <= 1, Setting::kTopP, "a number in (0, 1]",
          options.top_p);
  Require(options.min_p >= 0 && options.min_p <= 1, Setting::kMinP, "a number in [0, 1]",
          options.min_p);
  Require(options.repeat_penalty > 0 && std::isfinite(options.repeat_penalty),
          Setting::kRepeatPenalty, "a number above 0", options.repeat_penalty);
  Require(options.repeat_last_n >= -1, Setting::kRepeatLastN, "a whole number of at least -1",
          options.repeat_last_n);
}

Sampler::Sampler(const SamplerOptions& options) : options_(options) {
  Validate(options);
  uint64_t seed = options.seed;
  for (uint64_t& word : rng_state_) word = Splitmix64(&seed);
}

void Sampler::Forget() {
  history_.clear();
  history_next_ = 0;
  n_recent_.clear();
}

void Sampler::Accept(int32_t id) {
  CHECK(id >= 0);
  if (options_.repeat_last_n == 0 || options_.repeat_penalty == 1.0F) return;
  ++n_recent_[id];
  if (options_.repeat_last_n < 0) return;
  if (history_.size() < static_cast<size_t>(options_.repeat_last_n)) {
    history_.push_back(id);
    return;
  }
  const auto oldest = n_recent_.find(history_[history_next_]);
  if (--oldest->second == 0) n_recent_.erase(oldest);
  history_[history_next_] = id;
  history_next_ = (history_next_ + 1) % history_.size();
}

int32_t Sampler::Sample(std::span<const float> logits) {
  Collect(logits);
  return Choose();
}

int32_t Sampler::SampleBest(std::span<const TokenLogit> best) {
  CHECK(n_deciding() > 0);
  CollectBest(best);
  return Choose();
}

// A penalty of 1 or more lowers the tokens in its window and leaves the others where they are: the
// best k behind it are among the best k + window before. One more tells whether there are more than
// k at all; Draw() goes by ids where there are not.
int64_t Sampler::n_deciding() const {
  const bool penalises = options_.repeat_penalty != 1.0F && options_.repeat_last_n != 0;
  if (penalises && (options_.repeat_penalty < 1.0F || options_.repeat_last_n < 0)) return 0;
  const int64_t window = penalises ? options_.repeat_last_n : 0;
  if (options_.temperature == 0.0F) return 1 + window;
  return options_.top_k == 0 ? 0 : options_.top_k + window + 1;
}

int32_t Sampler::Choose() {
  if (options_.temperature == 0.0F) return best();
  KeepTopK();
  Weigh();
  KeepTopP();
  KeepMinP();
  return Draw();
}

float Sampler::Penalised(float logit) const {
  return logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
}

void Sampler::Collect(std::span<const float> logits) {
  candidates_.resize(logits.size());
  for (size_t id = 0; id < logits.size(); ++id) {
    candidates_[id] = {logits[id], static_cast<int32_t>(id), 0.0};
  }
  for (const auto& [id, n] : n_recent_) {
    if (static_cast<size_t>(id) >= candidates_.size()) continue;
    float& logit = candidates_[static_cast<size_t>(id)].logit;
    logit = Penalised(logit);
  }
  KeepFinite();
}

void Sampler::CollectBest(std::span<const TokenLogit> best) {
  candidates_.clear();
  for (const auto& [id, logit] : best) {
    candidates_.push_back({n_recent_.contains(id) ? Penalised(logit) : logit, id, 0.0});
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  KeepFinite();
}

void Sampler::KeepFinite() {
  const size_t n_all = candidates_.size();
  const auto end = std::remove_if(candidates_.begin(), candidates_.end(),
                                  [](const Candidate& c) { return !std::isfinite(c.logit); });
  candidates_.erase(end, candidates_.end());
  if (candidates_.empty()) {
    throw Error({"", "the model's output", "at least one finite logit",
                 fmt::format("none among {}", n_all),
                 "the model file or its computation is broken"});
  }
}

namespace {

// A total order, so that what is kept does not depend on the C++ library: better first, lower id
// first among equals.
constexpr auto kBetter = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

}  // namespace

int32_t Sampler::best() const {
  return std::min_element(candidates_.begin(), candidates_.end(), kBetter)->id;
}

void Sampler::KeepTopK() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k - 1),
                   candidates_.end(), kBetter);
  candidates_.resize(k);
  // nth_element leaves an order of the library's choosing, and Draw() goes by it.
  std::sort(candidates_.begin(), candidates_.end(), kBetter);
}

void Sampler::Weigh() {
  const double best_logit =
      std::min_element(candidates_.begin(), candidates_.end(), kBetter)->logit;
  for (Candidate& c : candidates_)
    c.weight = std::exp((c.logit - best_logit) / options_.temperature);
}

void Sampler::KeepTopP() {
  if (options_.top_p >= 1.0F) return;
  double total = 0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double enough = total * static_cast<double>(options_.top_p);
  // A heap gives the best ones in turn without sorting a whole vocabulary for the few that are
  // kept.
  const auto worse = [](const Candidate& a, const Candidate& b) { return kBetter(b, a); };
  std::make_heap(candidates_.begin(), candidates_.end(), worse);
  double sum = 0;
  auto heap_end = candidates_.end();
  while (heap_end != candidates_.begin() && sum < enough) {
    std::pop_heap(candidates_.begin(), heap_end, worse);
    sum += (--heap_end)->weight;
  }
  candidates_.erase(candidates_.begin(), heap_end);
  std::reverse(candidates_.begin(), candidates_.end());  // best first
}

void Sampler::KeepMinP() {
  if (options_.min_p <= 0.0F) return;
  const auto least = static_cast<double>(options_.min_p);  // the best one's weight is 1
  const auto end = std::remove_if(candidates_.begin(), candidates_.end(),
                                  [least](const Candidate& c) { return c.weight < least; });
  candidates_.erase(end, candidates_.end());
}

int32_t Sampler::Draw() {
  double total = 0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double target = uniform() * total;
  double sum = 0;
  int32_t chosen = candidates_.front().id;
  for (const Candidate& c : candidates_) {
    if (c.weight <= 0) continue;
    chosen = c.id;  // the last one of any weight, should rounding leave `sum` just below the target
    sum += c.weight;
    if (target < sum) break;
  }
  return chosen;
}

double Sampler::uniform() { return static_cast<double>(Xoshiro256(rng_state_) >> 11) * 0x1.0p-53; }

}  // namespace thermocline
