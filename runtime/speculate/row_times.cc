#include "runtime/speculate/row_times.h"

#include <algorithm>

namespace thermocline {
namespace {

constexpr double kWeightOfNew = 0.15;
// What a row more costs, as a share of a pass, where nothing is known: little, so that it is tried.
constexpr double kRowShare = 0.03;

}  // namespace

void RowTimes::Measure(int64_t n_rows, double ms) {
  if (n_rows < 1 || n_rows > kMaxRows) return;
  Time& time = times_[static_cast<size_t>(n_rows)];
  ++time.n;
  if (time.n == 1) {
    time.ms = ms;
    return;
  }
  // Other programs hold a pass up now and then, and nothing makes one much faster than it is.
  const double clipped = std::clamp(ms, 0.25 * time.ms, 2 * time.ms);
  const double weight = std::max(kWeightOfNew, 1 / static_cast<double>(time.n));
  time.ms += weight * (clipped - time.ms);
}

bool RowTimes::KnowsUpTo(int64_t n_rows) const {
  const auto end = times_.begin() + std::min(n_rows, kMaxRows) + 1;
  return std::any_of(times_.begin(), end, [](const Time& time) { return time.n > 1; });
}

double RowTimes::Of(int64_t n_rows) const {
  int64_t below = 0;
  int64_t before_that = 0;
  int64_t above = 0;
  for (int64_t r = 1; r <= kMaxRows; ++r) {
    if (times_[static_cast<size_t>(r)].n == 0) continue;
    if (r <= n_rows) {
      before_that = below;
      below = r;
    } else {
      above = r;
      break;
    }
  }
  const auto ms = [&](int64_t r) { return times_[static_cast<size_t>(r)].ms; };
  const auto line = [&](int64_t a, int64_t b) {
    const double slope = std::max(0.0, ms(b) - ms(a)) / static_cast<double>(b - a);
    return ms(a) + slope * static_cast<double>(n_rows - a);
  };
  if (below == 0) return above == 0 ? 0 : ms(above);
  if (below == n_rows) return ms(below);
  if (above > 0) return line(below, above);
  if (before_that > 0) return std::max(ms(below), line(before_that, below));
  return ms(below) * (1 + kRowShare * static_cast<double>(n_rows - below));
}

}  // namespace thermocline
