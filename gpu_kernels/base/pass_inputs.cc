#include "gpu_kernels/base/pass_inputs.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Segments lie behind the rows, aligned; so does the next class behind them.
uint64_t RowsBytes(int64_t n_rows) {
  return static_cast<uint64_t>(AlignUp(n_rows * int64_t{sizeof(GpuPassRow)}, 16));
}
uint64_t InputsBytes(int64_t n_rows) {
  return RowsBytes(n_rows) + static_cast<uint64_t>(n_rows) * sizeof(GpuPassSegment);
}
uint64_t ClassesBytes(const GpuPassLimits& limits) {
  return InputsBytes(std::max(limits.max_rows, kMaxKeptRows)) *
         static_cast<uint64_t>(limits.n_classes);
}
uint64_t PagesBytes(const GpuPassLimits& limits) {
  return static_cast<uint64_t>(std::max<int64_t>(limits.max_pages, 1)) * sizeof(int32_t);
}

}  // namespace

void FindLeaders(std::span<GpuPassSegment> segments) {
  for (const GpuPassSegment& segment : segments) {
    int32_t n = segment.n_shared_pages;
    for (const GpuPassSegment* at = &segment; n > 0; n = std::min(n, at->n_shared_pages)) {
      GpuPassSegment& leader = segments[static_cast<size_t>(at->shares_with)];
      leader.n_led_pages = std::max(leader.n_led_pages, n);
      at = &leader;
    }
  }
}

GpuPassInputs::GpuPassInputs(const GpuPassLimits& limits)
    : limits_(limits),
      host_(ClassesBytes(limits), "a pass's rows"),
      device_(ClassesBytes(limits), "a pass's rows"),
      host_pages_(PagesBytes(limits), "the page table"),
      device_pages_(PagesBytes(limits), "the page table") {}

uint64_t GpuPassInputs::DeviceBytes(const GpuPassLimits& limits) {
  return ClassesBytes(limits) + PagesBytes(limits);
}

// A pass of few rows may be captured: all such passes lie alike.
int64_t GpuPassInputs::RowsHeld() const { return std::max(n_rows_, kMaxKeptRows); }

uint64_t GpuPassInputs::OffsetOf(size_t page_class) const {
  return page_class * InputsBytes(RowsHeld());
}

void GpuPassInputs::Set(std::span<const GpuPassClass> classes, std::span<const int32_t> pages) {
  CHECK(static_cast<int64_t>(classes.size()) == limits_.n_classes);
  n_rows_ = static_cast<int64_t>(classes.front().rows.size());
  n_segments_ = static_cast<int64_t>(classes.front().segments.size());
  CHECK(n_rows_ >= 1 && n_rows_ <= limits_.max_rows && n_segments_ >= 1 && n_segments_ <= n_rows_);
  CHECK(static_cast<int64_t>(pages.size()) <= limits_.max_pages);
  for (size_t c = 0; c < classes.size(); ++c) {
    const auto& [rows, segments] = classes[c];
    CHECK(static_cast<int64_t>(rows.size()) == n_rows_);
    CHECK(static_cast<int64_t>(segments.size()) == n_segments_);
    auto* const to = host_.host<std::byte>() + OffsetOf(c);
    std::ranges::copy(rows, reinterpret_cast<GpuPassRow*>(to));
    std::ranges::copy(segments, reinterpret_cast<GpuPassSegment*>(to + RowsBytes(RowsHeld())));
  }
  max_segment_rows_ = 0;
  for (const GpuPassSegment& segment : classes.front().segments) {
    max_segment_rows_ = std::max<int64_t>(max_segment_rows_, segment.n_rows);
  }
  pages_.assign(pages.begin(), pages.end());
}

uint64_t GpuPassInputs::SendPages(Stream& stream) {
  // A table that begins as the one that lies there need not be sent: only what is read counts.
  const bool there = pages_.size() <= sent_pages_.size() &&
                     std::equal(pages_.begin(), pages_.end(), sent_pages_.begin());
  if (there) return 0;
  std::ranges::copy(pages_, host_pages_.host<int32_t>());
  const uint64_t n_bytes = pages_.size() * sizeof(int32_t);
  stream.Copy(device_pages_.as<void>(), host_pages_.device<void>(), n_bytes);
  sent_pages_ = pages_;
  return n_bytes;
}

uint64_t GpuPassInputs::SendRows(Stream& stream) {
  const int64_t n_segments = n_rows_ <= kMaxKeptRows ? kMaxKeptRows : n_segments_;
  const uint64_t n_bytes = OffsetOf(static_cast<size_t>(limits_.n_classes - 1)) +
                           RowsBytes(RowsHeld()) +
                           static_cast<uint64_t>(n_segments) * sizeof(GpuPassSegment);
  stream.Copy(device_.as<void>(), host_.device<void>(), n_bytes);
  return n_bytes;
}

GpuPass GpuPassInputs::pass(size_t page_class) const {
  CHECK(static_cast<int64_t>(page_class) < limits_.n_classes);
  const auto* const from = device_.as<std::byte>() + OffsetOf(page_class);
  return {.rows = reinterpret_cast<const GpuPassRow*>(from),
          .segments = reinterpret_cast<const GpuPassSegment*>(from + RowsBytes(RowsHeld())),
          .pages = device_pages_.as<int32_t>(),
          .n_rows = static_cast<int32_t>(n_rows_),
          .n_segments = static_cast<int32_t>(n_segments_),
          .max_segment_rows = static_cast<int32_t>(max_segment_rows_)};
}

}  // namespace thermocline
