#include "runtime/device/batch.h"

namespace thermocline {

std::vector<BatchSegment> Batch::Segments() const {
  std::vector<BatchSegment> segments;
  for (int64_t i = 0; i < n_rows(); ++i) {
    const BatchRow& next = row(i);
    if (!segments.empty()) {
      BatchSegment& last = segments.back();
      if (next.sequence == last.sequence && next.position == last.first_position + last.n_rows) {
        ++last.n_rows;
        continue;
      }
    }
    segments.push_back({i, 1, next.sequence, next.position});
  }
  return segments;
}

}  // namespace thermocline
