#include "runtime/synth/synth_activity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/synth/synth_random.h"

namespace thermocline {
namespace {

// The steepest law. Steeper ones are steps: every neuron is at the cap or at nothing.
constexpr double kMaxExponent = 40;
// Firing probability of the coldest neurons, so that quantiles stay finite.
constexpr double kLeastProbability = 1e-12;
// Rounding of shares that are sums.
constexpr double kRounding = 1e-9;

double NormalDensity(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi); }
double NormalCdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

// The law with exponent a whose mean is `density`.
class PowerLaw {
 public:
  PowerLaw(double density, int64_t d_ff) : total_(density * static_cast<double>(d_ff)) {
    for (int64_t rank = 1; rank <= d_ff; ++rank) {
      logs_.push_back(std::log(static_cast<double>(rank) / static_cast<double>(d_ff)));
    }
    weights_.resize(logs_.size());
    tails_.resize(logs_.size());
  }

  // Finds the scale for exponent a. m neurons at the cap leave c * (the weights after them) = total
  // - m * cap; m is the first for which the next neuron stays below the cap.
  void Solve(double a) {
    double tail = 0;
    for (size_t i = logs_.size(); i-- > 0;) {
      weights_[i] = std::exp(-a * logs_[i]);
      tail += weights_[i];
      tails_[i] = tail;
    }
    n_capped_ = 0;
    const auto scale = [&] {
      return (total_ - kMostProbability * static_cast<double>(n_capped_)) / tails_[n_capped_];
    };
    while (n_capped_ + 1 < logs_.size() && scale() * weights_[n_capped_] > kMostProbability) {
      ++n_capped_;
    }
    scale_ = scale();
  }

  // Returns the activations of the first k neurons as a share of all.
  double Share(size_t k) const {
    const size_t capped = std::min(k, n_capped_);
    double sum = kMostProbability * static_cast<double>(capped);
    const double after = k < tails_.size() ? tails_[k] : 0;
    if (k > n_capped_) sum += scale_ * (tails_[n_capped_] - after);
    return sum / total_;
  }

  std::vector<double> Probabilities() const {
    std::vector<double> p(logs_.size(), kMostProbability);
    for (size_t i = n_capped_; i < p.size(); ++i) {
      p[i] = std::clamp(scale_ * weights_[i], kLeastProbability, kMostProbability);
    }
    return p;
  }

 private:
  double total_;
  std::vector<double> logs_;  // logarithms of rank / d_ff
  std::vector<double> weights_;
  std::vector<double> tails_;  // sums of the weights from here on
  size_t n_capped_ = 0;
  double scale_ = 0;
};

void CheckRanges(const ActivityTarget& target, int64_t d_ff) {
  // Written so that a value that is no number fails, too.
  if (!(target.density > 0 && target.density <= kMostDensity)) {
    throw Error({.what = std::string(SettingName(Setting::kDensity)),
                 .expected = fmt::format("above 0, at most {}", kMostDensity),
                 .found = fmt::format("{}", target.density),
                 .hint = "models made sparse have 0.02 to 0.3",
                 .settings = {{Setting::kDensity}}});
  }
  const bool shares =
      target.hottest > 0 && target.hottest < 1 && target.activations > 0 && target.activations < 1;
  const int64_t k = shares ? HottestNeurons(target, d_ff) : 0;
  if (k < 1 || k >= d_ff) {
    throw Error({.what = std::string(SettingName(Setting::kSkew)),
                 .expected = fmt::format("two shares in percent between 0 and 100, the first of at "
                                         "least one of {} neurons and not all",
                                         d_ff),
                 .found = fmt::format("{:g}:{:g}", 100 * target.hottest, 100 * target.activations),
                 .hint = "26:80 means that the hottest 26 % take 80 % of the activations",
                 .settings = {{Setting::kSkew}}});
  }
}

[[noreturn]] void FailSkew(const ActivityTarget& target, double least, double most) {
  // Limits are rounded inwards, so that what the message allows works.
  const double first = std::ceil(1000 * (least - kRounding)) / 10;
  const double last = std::min(99.9, std::floor(1000 * (most + kRounding)) / 10);
  throw Error(
      {.what = fmt::format("the skew {0:g}:{1:g} is not possible at density {2:g} (no "
                           "neuron fires in more than {3:g} % of the tokens)",
                           100 * target.hottest, 100 * target.activations, target.density,
                           100 * kMostProbability),
       .expected = fmt::format("{0:g}:{1:g} to {0:g}:{2:g}", 100 * target.hottest, first, last),
       .found = fmt::format("{:g}:{:g}", 100 * target.hottest, 100 * target.activations),
       .hint = "change the skew, or take another density",
       .settings = {{Setting::kSkew}, {Setting::kDensity}}});
}

}  // namespace

int64_t HottestNeurons(const ActivityTarget& target, int64_t d_ff) {
  return std::llround(target.hottest * static_cast<double>(d_ff));
}

std::vector<double> FiringProbabilities(const ActivityTarget& target, int64_t d_ff) {
  CheckRanges(target, d_ff);
  const auto k = static_cast<size_t>(HottestNeurons(target, d_ff));
  PowerLaw law(target.density, d_ff);
  const auto share = [&](double a) {
    law.Solve(a);
    return law.Share(k);
  };
  // With the mean held, a steeper law gives the hottest more: bisection finds the exponent.
  const double least = share(0);
  const double most = share(kMaxExponent);
  if (target.activations < least - kRounding || target.activations > most + kRounding) {
    FailSkew(target, least, most);
  }
  double low = 0;
  double high = kMaxExponent;
  constexpr int kHalvings = 60;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (low + high);
    (share(middle) < target.activations ? low : high) = middle;
  }
  law.Solve(low);
  return law.Probabilities();
}

double NormalQuantile(double p) {
  CHECK(p > 0 && p < 1);
  if (p > 0.5) return -NormalQuantile(1 - p);
  // A rational guess, off by less than 4.5e-4 (Abramowitz and Stegun, 26.2.23), is followed by
  // Halley's steps on Phi(x) = p, which triple the digits each.
  const double t = std::sqrt(-2 * std::log(p));
  const double above = 2.515517 + t * (0.802853 + t * 0.010328);
  const double below = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308));
  double x = above / below - t;
  for (int i = 0; i < 3; ++i) {
    const double step = (NormalCdf(x) - p) / NormalDensity(x);
    x -= step / (1 + 0.5 * x * step);
  }
  return x;
}

std::vector<int32_t> HotToCold(uint64_t seed, int64_t layer, int64_t d_ff) {
  std::vector<int32_t> order(static_cast<size_t>(d_ff));
  std::iota(order.begin(), order.end(), 0);
  uint64_t counter = MixBits(seed ^ MixBits(~static_cast<uint64_t>(layer)));
  for (size_t i = order.size(); i > 1; --i) {  // Fisher and Yates
    counter += kCounterStep;
    std::swap(order[i - 1], order[static_cast<size_t>(MixBits(counter) % i)]);
  }
  return order;
}

// E[(z + b)^k; z > -b] is integrated by parts. Far out the terms cancel, so what is left may fall
// below 0.
ActivationMoments MomentsOf(Activation activation, double bias) {
  CHECK(activation == Activation::kRelu || activation == Activation::kReluSqr);
  const double b = bias;
  const double fires = NormalCdf(b);
  const double edge = NormalDensity(b);
  const double first = std::max(0.0, b * fires + edge);
  const double second = std::max(0.0, (b * b + 1) * fires + b * edge);
  const double b3 = b * b * b;
  const double fourth = std::max(0.0, (b3 * b + 6 * b * b + 3) * fires + (b3 + 5 * b) * edge);
  if (activation == Activation::kRelu) return {first, second};
  return {second, fourth};
}

}  // namespace thermocline
