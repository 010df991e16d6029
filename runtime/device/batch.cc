#include "runtime/device/batch.h"

namespace thermocline {

std::vector<BatchSegment> Batch::Segments() const {
  std::vector<BatchSegment> segments;
  for (int64_t i = 0; i < n_rows(); ++i) {
    const BatchRow& next = row(i);
    if (!segments.empty()) {
      BatchSegment& last = segments.back();
      const bool in_order = next.branch < 0 && row(i - 1).branch < 0;
      if (in_order && next.sequence == last.sequence &&
          next.position == last.first_position + last.n_rows) {
        ++last.n_rows;
        continue;
      }
    }
    segments.push_back({i, 1, next.sequence, next.position});
  }
  return segments;
}

int64_t Batch::EndTogether(const BatchRow& row, int64_t position, int64_t end) const {
  const BatchBranch* const branch = branch_of(row);
  if (branch == nullptr) return end;
  if (position < branch->begin) return std::min(branch->begin, end);
  const int64_t ahead = PlaceOf(row, position) - position;
  do {
    ++position;
  } while (position < end && PlaceOf(row, position) - position == ahead);
  return position;
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
  const auto end_in_order = [&](const BatchSegment& segment) {
    return std::min(segment.first_position, batch.EndInOrder(batch.row(segment.first_row)));
  };
  const int64_t before_rows = std::min(end_in_order(a), end_in_order(b)) / kKvPageTokens;
  return std::min<int64_t>(parts.in1 - x.pages.begin(), before_rows);
}

}  // namespace thermocline
