#include "runtime/sampling/candidates.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

using Candidate = Candidates::Candidate;

// A total order, so that what is kept does not depend on the C++ library: better first, lower id
// first among equals.
constexpr auto kBetter = [](const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};
constexpr auto kWorse = [](const Candidate& a, const Candidate& b) { return kBetter(b, a); };

double ChanceIn(std::span<const TokenChance> chances, int32_t id) {
  const auto found = std::ranges::lower_bound(chances, id, {}, &TokenChance::id);
  return found != chances.end() && found->id == id ? found->probability : 0;
}

}  // namespace

void Candidates::Collect(std::span<const float> logits, std::span<const uint32_t> allowed) {
  by_id_ = true;
  if (allowed.empty()) {
    // Written over each other, so that nothing is asked of a vector for every one of very many.
    all_.resize(logits.size());
    size_t n = 0;
    for (size_t id = 0; id < logits.size(); ++id) {
      all_[n] = {logits[id], static_cast<int32_t>(id), 0.0};
      n += std::isfinite(logits[id]) ? 1 : 0;
    }
    all_.resize(n);
    return;
  }
  all_.clear();
  for (size_t word = 0; word < allowed.size(); ++word) {
    for (uint32_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      const size_t id = word * 32 + static_cast<size_t>(std::countr_zero(bits));
      if (id < logits.size() && std::isfinite(logits[id])) {
        all_.push_back({logits[id], static_cast<int32_t>(id), 0.0});
      }
    }
  }
}

void Candidates::Collect(std::span<const TokenLogit> logits) {
  all_.clear();
  by_id_ = true;
  for (const auto& [id, logit] : logits) {
    if (std::isfinite(logit)) all_.push_back({logit, id, 0.0});
  }
  std::ranges::sort(all_, {}, &Candidate::id);
}

Candidate* Candidates::Find(int32_t id) {
  const auto found = by_id_ ? std::ranges::lower_bound(all_, id, {}, &Candidate::id)
                            : std::ranges::find(all_, id, &Candidate::id);
  return found != all_.end() && found->id == id ? &*found : nullptr;
}

void Candidates::DropNotFinite() {
  std::erase_if(all_, [](const Candidate& c) { return !std::isfinite(c.logit); });
}

int32_t Candidates::best() const { return std::min_element(all_.begin(), all_.end(), kBetter)->id; }

void Candidates::Heat(float temperature) {
  // What is as cold as this is measured from the best one, so that no difference is lost where
  // quotients are beyond a float.
  constexpr float kCold = 1e-3F;
  constexpr double kMost = std::numeric_limits<float>::max();
  const double from = temperature < kCold ? std::ranges::max(all_, {}, &Candidate::logit).logit : 0;
  const double divisor = std::max(static_cast<double>(temperature), 1e-300);
  for (Candidate& c : all_) {
    c.logit = static_cast<float>(std::clamp((c.logit - from) / divisor, -kMost, kMost));
  }
}

double Candidates::Weigh() {
  const double best_logit = std::min_element(all_.begin(), all_.end(), kBetter)->logit;
  double sum = 0;
  for (Candidate& c : all_) sum += c.weight = std::exp(c.logit - best_logit);
  return sum;
}

double Candidates::total() const {
  double sum = 0;
  for (const Candidate& c : all_) sum += c.weight;
  return sum;
}

void Candidates::SortBestFirst() {
  std::ranges::sort(all_, kBetter);
  by_id_ = false;
}

double Candidates::Entropy() {
  const double sum = Weigh();
  double entropy = 0;
  for (const Candidate& c : all_) {
    const double p = c.weight / sum;
    if (p > 0) entropy -= p * std::log(p);
  }
  return entropy;
}

void Candidates::KeepTopK(int64_t k) {
  const auto n = static_cast<size_t>(k);
  if (n == 0 || n >= all_.size()) return;
  std::nth_element(all_.begin(), all_.begin() + static_cast<ptrdiff_t>(n - 1), all_.end(), kBetter);
  all_.resize(n);
  // nth_element leaves an order of the library's choosing, and Draw goes by it.
  SortBestFirst();
}

void Candidates::KeepTopNSigma(float n) {
  double sum = 0;
  double most = all_.front().logit;
  for (const Candidate& c : all_) {
    sum += c.logit;
    most = std::max(most, static_cast<double>(c.logit));
  }
  const double mean = sum / static_cast<double>(all_.size());
  double squares = 0;
  for (const Candidate& c : all_) squares += (c.logit - mean) * (c.logit - mean);
  const double sigma = std::sqrt(squares / static_cast<double>(all_.size()));
  const double least = most - static_cast<double>(n) * sigma;
  std::erase_if(all_, [least](const Candidate& c) { return c.logit < least; });
}

void Candidates::KeepTypical(float p, size_t min_keep) {
  const double sum = Weigh();
  const double entropy = Entropy();
  struct Shift {
    double shift;
    size_t index;
  };
  std::vector<Shift> shifts(all_.size());
  for (size_t i = 0; i < all_.size(); ++i) {
    shifts[i] = {std::abs(-std::log(all_[i].weight / sum) - entropy), i};
  }
  std::ranges::sort(shifts, [&](const Shift& a, const Shift& b) {
    return a.shift != b.shift ? a.shift < b.shift : all_[a.index].id < all_[b.index].id;
  });
  const double enough = sum * static_cast<double>(p);
  double kept_sum = 0;
  std::vector<Candidate> kept;
  for (const Shift& shift : shifts) {
    kept.push_back(all_[shift.index]);
    kept_sum += kept.back().weight;
    if (kept_sum > enough && kept.size() >= min_keep) break;
  }
  all_ = std::move(kept);
  SortBestFirst();
}

void Candidates::KeepTopP(float p, size_t min_keep) {
  if (p >= 1.0F) return;
  const double enough = Weigh() * static_cast<double>(p);
  // A heap gives the best ones in turn without sorting a whole vocabulary for the few that are
  // kept.
  std::make_heap(all_.begin(), all_.end(), kWorse);
  double sum = 0;
  size_t n_kept = 0;
  auto heap_end = all_.end();
  while (heap_end != all_.begin() && (sum < enough || n_kept < min_keep)) {
    std::pop_heap(all_.begin(), heap_end, kWorse);
    sum += (--heap_end)->weight;
    ++n_kept;
  }
  all_.erase(all_.begin(), heap_end);
  std::reverse(all_.begin(), all_.end());  // best first
  by_id_ = false;
}

void Candidates::KeepMinP(float p, size_t min_keep) {
  if (p <= 0.0F) return;
  Weigh();
  const auto least = static_cast<double>(p);  // the best one's weight is 1
  const auto n = std::ranges::count_if(all_, [&](const Candidate& c) { return c.weight >= least; });
  if (static_cast<size_t>(n) < min_keep) return KeepTopK(static_cast<int64_t>(min_keep));
  std::erase_if(all_, [least](const Candidate& c) { return c.weight < least; });
}

void Candidates::ExcludeTopChoices(float threshold, size_t min_keep) {
  const double least = Weigh() * static_cast<double>(threshold);
  SortBestFirst();
  const auto end = std::ranges::find_if(all_, [&](const Candidate& c) { return c.weight < least; });
  const auto n_viable = static_cast<size_t>(end - all_.begin());
  if (n_viable < 2 || all_.size() - (n_viable - 1) < min_keep) return;
  all_.erase(all_.begin(), end - 1);
}

void Candidates::KeepSurprise(double bits) {
  const double least = Weigh() * std::exp2(-bits);
  SortBestFirst();
  const auto end = std::find_if(all_.begin() + 1, all_.end(),
                                [least](const Candidate& c) { return c.weight < least; });
  all_.erase(end, all_.end());
}

void Candidates::KeepZipf(double bits, int64_t vocab_size) {
  constexpr size_t kFitted = 100;
  Weigh();
  SortBestFirst();
  double products = 0;
  double squares = 0;
  for (size_t i = 0; i + 1 < std::min(kFitted, all_.size()); ++i) {
    if (all_[i + 1].weight <= 0) break;
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    products += t * std::log(all_[i].weight / all_[i + 1].weight);
    squares += t * t;
  }
  if (squares == 0) return;
  const double s = products / squares;
  const double epsilon = s - 1;
  const auto n = static_cast<double>(vocab_size);
  // The limits for an exponent of 1 and of 0.
  const double share =
      std::abs(epsilon) < 1e-9 ? 1 / std::log(n) : epsilon / (1 - std::pow(n, -epsilon));
  const double k = s <= 1e-9 ? n : std::pow(share * std::exp2(bits), 1 / s);
  KeepTopK(static_cast<int64_t>(std::clamp(k, 1.0, n)));
}

void Candidates::KeepOnly(int32_t id) {
  std::erase_if(all_, [id](const Candidate& c) { return c.id != id; });
  for (Candidate& c : all_) c.weight = 1;
}

const Candidate& Candidates::Draw(double target) {
  const double end = target * Weigh();
  double sum = 0;
  const Candidate* chosen = all_.data();
  for (const Candidate& c : all_) {
    if (c.weight <= 0) continue;
    chosen = &c;  // the last one of any weight, should rounding leave `sum` just below the target
    sum += c.weight;
    if (end < sum) break;
  }
  return *chosen;
}

const Candidate* Candidates::Accept(int32_t id, std::span<const TokenChance> chances,
                                    double target) {
  const double sum = Weigh();
  const auto found = std::ranges::find(all_, id, &Candidate::id);
  if (found == all_.end()) return nullptr;
  return target * ChanceIn(chances, id) < found->weight / sum ? &*found : nullptr;
}

const Candidate& Candidates::DrawRest(std::span<const TokenChance> chances, double target) {
  const double all = Weigh();
  const auto more = [&](const Candidate& c) {
    return std::max(0.0, c.weight / all - ChanceIn(chances, c.id));
  };
  double rest = 0;
  for (const Candidate& c : all_) rest += more(c);
  // Equal distributions differ by rounding only, and a token of them was accepted.
  if (rest <= 0) return Draw(target);
  double sum = 0;
  const Candidate* chosen = nullptr;
  for (const Candidate& c : all_) {
    const double weight = more(c);
    if (weight <= 0) continue;
    chosen = &c;
    sum += weight;
    if (target * rest < sum) break;
  }
  return *chosen;
}

double Candidates::BitsOf(const Candidate& candidate) const {
  return -std::log(candidate.weight / total()) / std::numbers::ln2;
}

std::vector<TokenChance> Candidates::Likeliest(size_t n) const {
  std::vector<Candidate> best(all_);
  std::erase_if(best, [](const Candidate& c) { return c.weight <= 0; });
  const size_t n_kept = std::min(n, best.size());
  std::partial_sort(best.begin(), best.begin() + static_cast<ptrdiff_t>(n_kept), best.end(),
                    kBetter);
  const double sum = total();
  std::vector<TokenChance> chances;
  for (size_t i = 0; i < n_kept; ++i) chances.push_back({best[i].id, best[i].weight / sum});
  return chances;
}

double Candidates::ChanceOf(int32_t id) const {
  const auto found = std::ranges::find(all_, id, &Candidate::id);
  return found == all_.end() ? 0 : found->weight / total();
}

}  // namespace thermocline
