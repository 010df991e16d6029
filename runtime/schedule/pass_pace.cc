#include "runtime/schedule/pass_pace.h"

#include <algorithm>

namespace thermocline {
namespace {

constexpr double kWeightOfNew = 0.2;
constexpr int64_t kFewest = 16;
// A measurement of a token's share is worth something from so many tokens on.
constexpr int64_t kFewestMeasured = 8;

void Blend(double* mean, double value) {
  *mean = *mean == 0 ? value : (1 - kWeightOfNew) * *mean + kWeightOfNew * value;
}

}  // namespace

void PassPace::Measure(int64_t n_written, int64_t n_read, double ms) {
  if (n_read == 0 && n_written > 0) Blend(&write_ms_, ms);
  if (n_read >= kFewestMeasured) {
    const double writing = n_written > 0 ? write_ms_ : 0;
    Blend(&read_ms_, std::max(0.0, ms - writing) / static_cast<double>(n_read));
  }
}

int64_t PassPace::ReadTokens(double times) const {
  if (write_ms_ == 0 || read_ms_ == 0) return 0;
  const double n = (times - 1) * write_ms_ / read_ms_;
  return std::max(kFewest, static_cast<int64_t>(std::min(n, 1e9)));
}

}  // namespace thermocline
