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

int64_t SharedPages(const Batch& batch, size_t page_class, const BatchSegment& a,
                    const BatchSegment& b) {
  const auto table_of = [&](const BatchSegment& segment) {
    return batch.sequences[static_cast<size_t>(segment.sequence)].tables[page_class];
  };
  const KvPageTable x = table_of(a);
  const KvPageTable y = table_of(b);
  if (x.first_page != 0 || y.first_page != 0) return 0;
  const auto parts = std::ranges::mismatch(x.pages, y.pages);
  const int64_t before_rows = std::min(a.first_position, b.first_position) / kKvPageTokens;
  return std::min<int64_t>(parts.in1 - x.pages.begin(), before_rows);
}

}  // namespace thermocline
