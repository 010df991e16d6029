#include "runtime/schedule/pass_pace.h"

#include <algorithm>

namespace thermocline {
namespace {

constexpr double kWeightOfNew = 0.2;
constexpr int64_t kFewest = 8;
// What multiplies several rows at once takes about as long with fewer.
constexpr int64_t kFewestRows = 16;
// What a row takes shows in passes of so many.
constexpr int64_t kFewestMeasured = 8;

void Blend(double* mean, double value, double weight = kWeightOfNew) {
  *mean = *mean == 0 ? value : (1 - weight) * *mean + weight * value;
}

}  // namespace

void PassPace::Measure(int64_t n_written, int64_t n_read, double ms) {
  const int64_t n_rows = n_written + n_read;
  if (n_rows == 0) return;
  const auto n_further = static_cast<double>(n_rows - 1);
  // Of a pass of several rows the single one's part is what is left, and most of it at most.
  ++n_since_writing_;
  if (n_read == 0) {
    n_since_writing_ = 0;
    ++n_writing_;
    const double least = ms / static_cast<double>(n_rows);
    // The first ones count alike.
    const double weight = std::max(kWeightOfNew, 1 / static_cast<double>(n_writing_));
    Blend(&single_ms_, std::max(least, ms - n_further * row_ms_), weight);
  }
  if (n_rows > kFewestMeasured) Blend(&row_ms_, std::max(0.0, ms - single_ms_) / n_further);
}

int64_t PassPace::ReadTokens(double times, int64_t n_written) const {
  if (single_ms_ == 0 || row_ms_ == 0) return 0;
  const double n_rows = 1 + (times - 1) * single_ms_ / row_ms_;
  const int64_t most = std::max(kFewestRows, static_cast<int64_t>(std::min(n_rows, 1e9)));
  return std::max(kFewest, most - n_written);
}

}  // namespace thermocline
