#include "runtime/device/gpu/gpu_pass_tables.h"

#include <algorithm>

namespace thermocline {

GpuPassTables::GpuPassTables(const Batch& batch, std::span<const BatchSegment> segments,
                             int64_t n_classes) {
  for (size_t c = 0; c < static_cast<size_t>(n_classes); ++c) {
    const std::vector<int64_t> first_pages = ListPages(batch, segments, c);
    classes_.push_back(MakeClass(batch, segments, c, first_pages));
  }
  AddEncoderTexts(batch, segments);
  if (!batch.branches.empty()) AddBranches(batch, segments);
}

void GpuPassTables::AddBranches(const Batch& batch, std::span<const BatchSegment> segments) {
  for (size_t c = 0; c < classes_.size(); ++c) {
    for (size_t i = 0; i < segments.size(); ++i) {
      const BatchRow& row = batch.row(segments[i].first_row);
      const BatchBranch* const branch = batch.branch_of(row);
      if (branch == nullptr) continue;
      GpuPassSegment& made = classes_[c].segments[i];
      made.branch_begin = static_cast<int32_t>(branch->begin);
      made.branch_slots = static_cast<int32_t>(pages_.size());
      const KvPageTable& table = batch.sequence_of(row).tables[c];
      for (const int64_t place : branch->places) {
        pages_.push_back(static_cast<int32_t>(table.SlotOf(place)));
      }
    }
  }
}

void GpuPassTables::AddEncoderTexts(const Batch& batch, std::span<const BatchSegment> segments) {
  std::vector<int64_t> first_pages;
  for (const BatchSequence& sequence : batch.sequences) {
    first_pages.push_back(static_cast<int64_t>(pages_.size()));
    const auto used =
        sequence.encoder_pages.first(static_cast<size_t>(KvPagesFor(sequence.encoder_length)));
    pages_.insert(pages_.end(), used.begin(), used.end());
  }
  for (Class& made : classes_) {
    for (size_t i = 0; i < made.rows.size(); ++i) {
      made.rows[i].n_encoder =
          static_cast<int32_t>(batch.sequence_of(batch.rows[i]).encoder_length);
    }
    for (size_t i = 0; i < made.segments.size(); ++i) {
      const auto sequence = static_cast<size_t>(segments[i].sequence);
      made.segments[i].encoder_page = static_cast<int32_t>(first_pages[sequence]);
      made.segments[i].n_encoder = static_cast<int32_t>(batch.sequences[sequence].encoder_length);
    }
  }
}

std::vector<GpuPassClass> GpuPassTables::classes() const {
  std::vector<GpuPassClass> classes;
  for (const Class& made : classes_) classes.push_back({made.rows, made.segments});
  return classes;
}

// Pages are listed up to the last position that a row of their sequence looks back to.
std::vector<int64_t> GpuPassTables::ListPages(const Batch& batch,
                                              std::span<const BatchSegment> segments,
                                              size_t page_class) {
  std::vector<int64_t> end_pages(batch.sequences.size());
  for (const BatchSegment& segment : segments) {
    int64_t& end = end_pages[static_cast<size_t>(segment.sequence)];
    const int64_t last_place = batch.place(batch.row(segment.first_row + segment.n_rows - 1));
    end = std::max(end, KvPagesFor(last_place + 1));
  }
  std::vector<int64_t> first_pages;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const KvPageTable& table = batch.sequences[s].tables[page_class];
    first_pages.push_back(static_cast<int64_t>(pages_.size()) - table.first_page);
    const int64_t n_used = std::max<int64_t>(end_pages[s] - table.first_page, 0);
    const auto used = table.pages.first(static_cast<size_t>(n_used));
    pages_.insert(pages_.end(), used.begin(), used.end());
  }
  return first_pages;
}

GpuPassTables::Class GpuPassTables::MakeClass(const Batch& batch,
                                              std::span<const BatchSegment> segments,
                                              size_t page_class,
                                              std::span<const int64_t> first_pages) {
  Class made;
  for (const BatchRow& row : batch.rows) {
    const KvPageTable& table = batch.sequence_of(row).tables[page_class];
    made.rows.push_back({.id = row.token,
                         .position = static_cast<int32_t>(row.position),
                         .slot = static_cast<int32_t>(table.SlotOf(batch.place(row)))});
  }
  for (const BatchSegment& segment : segments) {
    const int64_t first_page = first_pages[static_cast<size_t>(segment.sequence)];
    made.segments.push_back({.first_row = static_cast<int32_t>(segment.first_row),
                             .n_rows = static_cast<int32_t>(segment.n_rows),
                             .first_position = static_cast<int32_t>(segment.first_position),
                             .first_page = static_cast<int32_t>(first_page)});
  }
  FindShared(batch, segments, page_class, made.segments);
  return made;
}

// Finds for each segment the one before it that has most pages in common with it. From one to the
// next they lead to the first of those that have a page in common.
void GpuPassTables::FindShared(const Batch& batch, std::span<const BatchSegment> segments,
                               size_t page_class, std::span<GpuPassSegment> made) {
  if (batch.n_rows() > kMaxKeptRows) return;  // attention of larger passes does not ask
  for (size_t i = 1; i < segments.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const auto n = static_cast<int32_t>(SharedPages(batch, page_class, segments[j], segments[i]));
      if (n <= made[i].n_shared_pages) continue;
      made[i].n_shared_pages = n;
      made[i].shares_with = static_cast<int32_t>(j);
    }
  }
  FindLeaders(made);
}

}  // namespace thermocline
