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
};

struct BatchSequence {
  std::vector<KvPageTable> tables;  // by page class: where its keys and values lie
  int32_t adapter_set = 0;          // index into ModelAdapters::sets, where the model has adapters
  // Of a model with an encoder: the pages of the text that the encoder read, and its positions.
  std::span<const int32_t> encoder_pages = {};
  int64_t encoder_length = 0;
};

// Rows of one sequence that follow each other, in the batch and in the sequence.
struct BatchSegment {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int32_t sequence = 0;
  int64_t first_position = 0;
};

struct Batch {
  std::vector<BatchRow> rows;
  std::vector<BatchSequence> sequences;

  int64_t n_rows() const { return static_cast<int64_t>(rows.size()); }
  const BatchRow& row(int64_t i) const { return rows[static_cast<size_t>(i)]; }
  const BatchSequence& sequence_of(const BatchRow& row) const {
    return sequences[static_cast<size_t>(row.sequence)];
  }
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

// Returns how many pages from position 0 on two segments begin with alike, before the rows of both.
int64_t SharedPages(const Batch& batch, size_t page_class, const BatchSegment& a,
                    const BatchSegment& b);

}  // namespace thermocline
