// Passes for tests of kernels, of one sequence or of several, in pages that lie anywhere.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/tokens/kv_planes.h"
#include "tests/gpu_kernels/gpu_test.h"

namespace thermocline {

// Pages first, first + 1, ... for n positions.
inline std::vector<int32_t> PagesInOrder(int64_t n_positions, int32_t first = 0) {
  std::vector<int32_t> pages(
      static_cast<size_t>((n_positions + kGpuKvPageTokens - 1) / kGpuKvPageTokens));
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

// Rows of one sequence that follow each other.
struct TestSegment {
  int64_t first_position = 0;
  int64_t n_rows = 1;
  std::vector<int32_t> pages;
  std::vector<int32_t> ids;  // or empty
  int64_t first_page = 0;    // of the sequence, that is there: pages[0]
  // Of the text that an encoder read for the sequence.
  std::vector<int32_t> encoder_pages = {};
  int64_t n_encoder = 0;
  int32_t n_shared_pages = 0;  // with the segment `shares_with`
  int32_t shares_with = 0;

  int32_t SlotOf(int64_t position) const {
    return pages[static_cast<size_t>(position / kGpuKvPageTokens - first_page)] * kGpuKvPageTokens +
           static_cast<int32_t>(position % kGpuKvPageTokens);
  }
};

// A pass in device memory, until what was enqueued with it is done.
class TestPass {
 public:
  TestPass(Stream& stream, const std::vector<TestSegment>& segments)
      : stream_(stream), inputs_({.max_rows = 4096, .max_pages = 4096}) {
    Set(segments);
    inputs_.SendPages(stream);
    inputs_.SendRows(stream);
    stream.Synchronize();
  }
  // A pass of one sequence in pages 0, 1, ....
  TestPass(Stream& stream, int64_t first_position, int64_t n_rows)
      : TestPass(stream, {{first_position, n_rows, PagesInOrder(first_position + n_rows), {}, 0}}) {
  }

  ~TestPass() { stream_.Synchronize(); }
  TestPass(const TestPass&) = delete;
  TestPass& operator=(const TestPass&) = delete;

  void Set(const std::vector<TestSegment>& segments) {
    std::vector<GpuPassRow> rows;
    std::vector<GpuPassSegment> gpu_segments;
    std::vector<int32_t> pages;
    for (const TestSegment& s : segments) {
      gpu_segments.push_back(
          {static_cast<int32_t>(rows.size()), static_cast<int32_t>(s.n_rows),
           static_cast<int32_t>(s.first_position),
           static_cast<int32_t>(pages.size()) - static_cast<int32_t>(s.first_page),
           static_cast<int32_t>(pages.size() + s.pages.size()), static_cast<int32_t>(s.n_encoder),
           s.n_shared_pages, s.shares_with});
      for (int64_t i = 0; i < s.n_rows; ++i) {
        const int64_t position = s.first_position + i;
        rows.push_back({s.ids.empty() ? 0 : s.ids[static_cast<size_t>(i)],
                        static_cast<int32_t>(position), s.SlotOf(position),
                        static_cast<int32_t>(s.n_encoder)});
      }
      pages.insert(pages.end(), s.pages.begin(), s.pages.end());
      pages.insert(pages.end(), s.encoder_pages.begin(), s.encoder_pages.end());
    }
    FindLeaders(gpu_segments);
    const GpuPassClass only{rows, gpu_segments};
    inputs_.Set({&only, 1}, pages);
  }
  GpuPassInputs& inputs() { return inputs_; }
  GpuPass get() const { return inputs_.pass(); }

 private:
  Stream& stream_;
  GpuPassInputs inputs_;
};

}  // namespace thermocline
