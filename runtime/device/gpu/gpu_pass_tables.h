// A batch as the kernels of a pass want to know it (gpu_kernels/base/pass_inputs.h), on the host.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpu_kernels/base/pass_inputs.h"
#include "runtime/device/batch.h"

namespace thermocline {

// Slots of the branches of a pass that there is room for, of each class: of up to 64 tokens, each
// behind at most 63 others.
inline constexpr int64_t kMostBranchPlaces = int64_t{64} * 64;

class GpuPassTables {
 public:
  // REQUIRES: every sequence has a table of each of the n_classes classes of pages, with the pages
  // of its rows.
  GpuPassTables(const Batch& batch, std::span<const BatchSegment> segments, int64_t n_classes);

  // Valid as long as this is.
  std::vector<GpuPassClass> classes() const;
  // The page table: of each class the pages of the sequences, end to end, and behind them those of
  // an encoder's texts, and the slots of the branches of each class.
  std::span<const int32_t> pages() const { return pages_; }

 private:
  struct Class {
    std::vector<GpuPassRow> rows;
    std::vector<GpuPassSegment> segments;
  };
  // Lists the pages of a class. Returns where in `pages_` the page of each sequence's position 0
  // stands, or would stand before those that are there.
  std::vector<int64_t> ListPages(const Batch& batch, std::span<const BatchSegment> segments,
                                 size_t page_class);
  static Class MakeClass(const Batch& batch, std::span<const BatchSegment> segments,
                         size_t page_class, std::span<const int64_t> first_pages);
  // Says of the class's segments which begin with the same pages.
  static void FindShared(const Batch& batch, std::span<const BatchSegment> segments,
                         size_t page_class, std::span<GpuPassSegment> made);
  // Lists the pages of the texts that an encoder read for the sequences, which rows of all classes
  // may look at.
  void AddEncoderTexts(const Batch& batch, std::span<const BatchSegment> segments);
  // Lists the slots of branches.
  void AddBranches(const Batch& batch, std::span<const BatchSegment> segments);

  std::vector<Class> classes_;
  std::vector<int32_t> pages_;
};

}  // namespace thermocline
