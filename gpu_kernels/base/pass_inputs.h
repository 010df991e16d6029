// What changes from pass to pass, in device memory: which rows (tokens) a pass has, where in their
// sequences they stand, and in which pages of the KV cache these lie. A captured graph is replayed
// with the arguments it was recorded with, so its first node copies the rows from pinned host
// memory, and every kernel that must know reads them there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"

namespace thermocline {

// Rows of a pass that can be captured: a token of each of a few sequences, or a few of one to be
// verified at once.
inline constexpr int64_t kMaxKeptRows = 16;

struct GpuPassRow {
  int32_t id;        // the token
  int32_t position;  // in its sequence
  int32_t slot;      // where a class keeps it: its page times kGpuKvPageTokens, and its place there
  // Positions of the text that an encoder read for its sequence; 0: none.
  int32_t n_encoder = 0;
};

// More than any position.
inline constexpr int32_t kNoBranch = INT32_MAX;

// Rows that follow each other, in the pass and in a sequence; or a row of a branch, of which
// several may stand at a position of a sequence.
struct GpuPassSegment {
  int32_t first_row;
  int32_t n_rows;
  int32_t first_position;
  // Where the page of the sequence's position 0 stands in the page table, or would stand where
  // a window has let go of it: the index, which may lie before the table.
  int32_t first_page;
  // The same of the text that an encoder read for the sequence, and its positions; 0: none.
  int32_t encoder_page = 0;
  int32_t n_encoder = 0;
  // Pages from position 0 on that lie wholly before its rows, and that a segment before it in the
  // pass begins with, too, before its own rows; and which one.
  int32_t n_shared_pages = 0;
  int32_t shares_with = 0;
  // The most pages that a segment behind it shares with it, be it by way of others.
  int32_t n_led_pages = 0;
  // Of a row of a branch: positions from branch_begin on lie in the slots that the page table has
  // from branch_slots on. REQUIRES: one row; the shared pages lie before it.
  int32_t branch_begin = kNoBranch;
  int32_t branch_slots = 0;
};

// Fills in n_led_pages from the two before it.
void FindLeaders(std::span<GpuPassSegment> segments);

// The pass as kernels take it, for layers of one class of pages. The pointers are to device memory.
struct GpuPass {
  const GpuPassRow* rows = nullptr;          // (n_rows)
  const GpuPassSegment* segments = nullptr;  // (n_segments), all rows in their order
  // The page table: the sequences' pages, end to end, and the slots of branches.
  const int32_t* pages = nullptr;
  int32_t n_rows = 0;
  int32_t n_segments = 0;
  int32_t max_segment_rows = 0;  // the most rows of a segment
};

struct GpuPassLimits {
  int64_t max_rows = 1;
  int64_t max_pages = 0;  // of the page table, all classes together, and slots of branches
  int64_t n_classes = 1;
};

// The pass as one class of pages has it. Slots and first pages differ from class to class.
struct GpuPassClass {
  std::span<const GpuPassRow> rows;
  std::span<const GpuPassSegment> segments;
};

// The pass at hand, on the host and in device memory.
class GpuPassInputs {
 public:
  explicit GpuPassInputs(const GpuPassLimits& limits);
  static uint64_t DeviceBytes(const GpuPassLimits& limits);

  // Describes the next pass, on the host. REQUIRES: nothing that was enqueued still reads the last
  // one; n_classes classes with the same rows and segments but for where they lie; at most max_rows
  // rows and max_pages pages; the segments are all rows.
  void Set(std::span<const GpuPassClass> classes, std::span<const int32_t> pages);
  // Enqueues the copy of the page table, unless it is the one that was sent last. Not for a graph:
  // whether it copies depends on the pass. Returns the bytes that move.
  uint64_t SendPages(Stream& stream);
  // Enqueues the copy of the rows and segments. Captured it serves every pass of as many rows and
  // segments, up to kMaxKeptRows. Returns the bytes that move.
  uint64_t SendRows(Stream& stream);
  // For kernels behind both.
  GpuPass pass(size_t page_class = 0) const;

 private:
  int64_t RowsHeld() const;
  uint64_t OffsetOf(size_t page_class) const;

  GpuPassLimits limits_;
  MappedMemory host_;          // by class GpuPassRow (RowsHeld()), then GpuPassSegment (the same)
  DeviceMemory device_;        // the same
  MappedMemory host_pages_;    // (max_pages) i32
  DeviceMemory device_pages_;  // the same
  std::vector<int32_t> sent_pages_;
  std::vector<int32_t> pages_;
  int64_t n_rows_ = 0;
  int64_t n_segments_ = 0;
  int64_t max_segment_rows_ = 0;
};

}  // namespace thermocline
