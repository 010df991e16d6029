// What one pass computes: rows (tokens), each of a sequence and at a position in it. The rows of a
// prompt, one row for each of many sequences, or both mixed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/device/kv_pages.h"

namespace thermocline {

struct BatchRow {
  int32_t token = 0;
  int32_t sequence = 0;  // index into Batch::sequences
  int64_t position = 0;  // in the sequence; it attends to positions 0 to this one
  bool wants_logits = false;
  int32_t branch = -1;  // index into Batch::branches; -1: what it sees lies in its order
};

// Several tokens may be fed that may all follow the same text, of which one will stay: then rows of
// a sequence stand at the same position, and cannot all lie there. For a row whose own position, or
// that of another that it follows, lies elsewhere: positions from `begin` on lie at these places,
// its own at the last of them. A place is where a position of that number would lie.
struct BatchBranch {
  int64_t begin = 0;
  std::vector<int64_t> places = {};
};

struct BatchSequence {
  std::vector<KvPageTable> tables;  // by page class: where its keys and values lie
  int32_t adapter_set = 0;          // index into ModelAdapters::sets, where the model has adapters
  // Of a model with an encoder: the pages of the text that the encoder read, and its positions.
  std::span<const int32_t> encoder_pages = {};
  int64_t encoder_length = 0;
};

// Rows of one sequence that follow each other, in the batch and in the sequence; or a row of a
// branch.
struct BatchSegment {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int32_t sequence = 0;
  int64_t first_position = 0;
};

struct Batch {
  std::vector<BatchRow> rows;
  std::vector<BatchSequence> sequences;
  std::vector<BatchBranch> branches = {};

  int64_t n_rows() const { return static_cast<int64_t>(rows.size()); }
  const BatchRow& row(int64_t i) const { return rows[static_cast<size_t>(i)]; }
  const BatchSequence& sequence_of(const BatchRow& row) const {
    return sequences[static_cast<size_t>(row.sequence)];
  }
  // Null where all that the row sees lies in its order.
  const BatchBranch* branch_of(const BatchRow& row) const {
    return row.branch < 0 ? nullptr : &branches[static_cast<size_t>(row.branch)];
  }
  // The positions from 0 on that lie in their order for the row: up to its own, or to its branch.
  int64_t EndInOrder(const BatchRow& row) const {
    return row.branch < 0 ? row.position + 1 : branch_of(row)->begin;
  }
  // Where a position that the row sees lies.
  int64_t PlaceOf(const BatchRow& row, int64_t position) const {
    const BatchBranch* const branch = branch_of(row);
    if (branch == nullptr || position < branch->begin) return position;
    return branch->places[static_cast<size_t>(position - branch->begin)];
  }
  int64_t place(const BatchRow& row) const { return PlaceOf(row, row.position); }
  // The end of those positions in [position, end) that lie behind each other.
  int64_t EndTogether(const BatchRow& row, int64_t position, int64_t end) const;
  int64_t n_wanted() const {
    int64_t n = 0;
    for (const BatchRow& row : rows) n += row.wants_logits ? 1 : 0;
    return n;
  }
  // The largest position and one, an encoder's texts included: how far any row looks.
  int64_t max_length() const {
    int64_t most = 0;
    for (const BatchRow& row : rows) most = std::max(most, row.position + 1);
    for (const BatchSequence& sequence : sequences) most = std::max(most, sequence.encoder_length);
    return most;
  }
  // All rows, cut into as few segments as there are.
  std::vector<BatchSegment> Segments() const;
};

// Returns how many pages from position 0 on two segments begin with alike, before the rows of both
// and what of their branches lies in another order.
int64_t SharedPages(const Batch& batch, size_t page_class, const BatchSegment& a,
                    const BatchSegment& b);

}  // namespace thermocline
