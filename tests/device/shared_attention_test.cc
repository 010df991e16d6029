// Sequences that begin with the same pages: each row gets the bits that it gets alone, and what
// they share is read once for all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <list>
#include <memory>
#include <random>
#include <unordered_map>
#include <vector>

#include "runtime/core/half.h"
#include "runtime/device/cpu/cpu_attention.h"
#include "tests/cpu_kernels/kernel_reference.h"
#include "tests/device/attention_fixture.h"

namespace thermocline {
namespace {

constexpr int64_t kSharedTokens = 2048;
constexpr int64_t kOwnTokens = 32;  // of each sequence at most
constexpr Heads kHeads = {6, 2, 64};

// A cache of a processor: the blocks that were used last, and how many bytes had to be fetched.
class FetchedBytes {
 public:
  static constexpr uint64_t kBlock = 1024;
  explicit FetchedBytes(uint64_t capacity) : n_blocks_(capacity / kBlock) {}

  void Read(const std::byte* from, int64_t n_bytes) {
    const auto begin = reinterpret_cast<uintptr_t>(from) / kBlock;
    const auto end =
        (reinterpret_cast<uintptr_t>(from) + static_cast<uint64_t>(n_bytes) - 1) / kBlock;
    for (uintptr_t block = begin; block <= end; ++block) Touch(block);
  }
  uint64_t bytes() const { return n_fetched_ * kBlock; }

 private:
  void Touch(uintptr_t block) {
    const auto found = places_.find(block);
    if (found != places_.end()) {
      used_.splice(used_.begin(), used_, found->second);
      return;
    }
    ++n_fetched_;
    used_.push_front(block);
    places_[block] = used_.begin();
    if (used_.size() <= n_blocks_) return;
    places_.erase(used_.back());
    used_.pop_back();
  }

  uint64_t n_blocks_;
  uint64_t n_fetched_ = 0;
  std::list<uintptr_t> used_;  // the last first
  std::unordered_map<uintptr_t, std::list<uintptr_t>::iterator> places_;
};

FetchedBytes* watched = nullptr;

// The processor's own kernels, but they say what they read of a cache of f16.
KernelTable WatchedKernels() {
  KernelTable kernels = CpuKernels();
  kernels.matvec = [](DType dtype, const std::byte* w, int64_t stride, int64_t n_cols,
                      const void* x, const int32_t* rows, int64_t begin, int64_t end, float* out) {
    if (dtype == DType::kF16) watched->Read(w + begin * stride, (end - begin) * stride);
    CpuKernels().matvec(dtype, w, stride, n_cols, x, rows, begin, end, out);
  };
  kernels.accumulate_rows = [](DType dtype, const std::byte* w, int64_t stride, const float* h,
                               const int32_t* rows, int64_t n_rows, int64_t col_begin,
                               int64_t col_end, float* y) {
    if (dtype == DType::kF16) watched->Read(w, n_rows * stride);
    CpuKernels().accumulate_rows(dtype, w, stride, h, rows, n_rows, col_begin, col_end, y);
  };
  return kernels;
}

// Sequences of kSharedTokens positions in common and up to kOwnTokens of their own.
class SharedTexts {
 public:
  explicit SharedTexts(size_t n, int64_t n_shared = kSharedTokens)
      : config_(Config()),
        cache_(config_, DType::kF16,
               MakeKvLayout(config_, KvPagesFor(n_shared) + static_cast<int64_t>(n))) {
    std::mt19937 rng(17);
    const std::vector<float> values = testing::RandomFloats(&rng, 4096);
    const auto n_pages = static_cast<int32_t>(cache_.layout().classes[0].n_pages);
    std::vector<std::byte> page(cache_.PageBytes(0));
    for (int32_t i = 0; i < n_pages; ++i) {
      auto* const halves = reinterpret_cast<uint16_t*>(page.data());
      for (size_t h = 0; h < page.size() / 2; ++h) {
        halves[h] = F32ToF16(values[(h * 31 + static_cast<size_t>(i) * 7) % values.size()]);
      }
      cache_.WritePage(0, i, page);
    }
    for (size_t s = 0; s < n; ++s) {
      for (int32_t i = 0; i < KvPagesFor(n_shared); ++i) pages_[s].push_back(i);
      pages_[s].push_back(static_cast<int32_t>(KvPagesFor(n_shared) + static_cast<int64_t>(s)));
      positions_.push_back(n_shared + static_cast<int64_t>(s * 5 % kOwnTokens));
    }
    q_ = testing::RandomFloats(&rng, static_cast<int64_t>(n) * RowFloats(), 2.0F);
  }

  // Attention of some of the sequences in one pass, by their order in `which`.
  std::vector<float> Run(const std::vector<size_t>& which, int n_lanes,
                         const KernelTable& kernels = CpuKernels(), int64_t max_sequences = 8) {
    Batch batch;
    std::vector<float> q;
    for (const size_t s : which) {
      batch.rows.push_back({0, static_cast<int32_t>(batch.sequences.size()), positions_[s], false});
      batch.sequences.push_back({.tables = {{0, pages_[s]}}});
      const auto from = q_.begin() + static_cast<int64_t>(s) * RowFloats();
      q.insert(q.end(), from, from + RowFloats());
    }
    const std::vector<BatchSegment> segments = batch.Segments();
    const AttentionOp op{kLayer,          0,
                         &batch,          segments,
                         kHeads.n_heads,  kHeads.n_kv_heads,
                         kHeads.head_dim, kHeads.Scale(),
                         kHeads.soft_cap, kHeads.window};
    CpuDeviceLimits limits = MakeCpuDeviceLimits(config_, 8, 4096, n_lanes);
    limits.max_sequences = max_sequences;
    CpuAttention attention(kernels, limits);
    ThreadTeam team(n_lanes);
    LaneGroup* group = team.MakeGroup(n_lanes);
    std::vector<float> out(q.size(), NAN);
    team.Run([&](int thread) {
      attention.Attend(Lane{thread, n_lanes, group}, cache_, op, q.data(), out.data());
    });
    return out;
  }
  static int64_t RowFloats() { return kHeads.n_heads * kHeads.head_dim; }

 private:
  static ModelConfig Config() {
    ModelConfig config = ConfigOf(kHeads);
    config.max_seq_len = 4096;
    return config;
  }

  ModelConfig config_;
  HostKvCache cache_;
  std::vector<int32_t> pages_[16];
  std::vector<int64_t> positions_;
  std::vector<float> q_;
};

TEST(SharedAttention, EachRowGetsTheBitsThatItGetsAlone) {
  SharedTexts texts(8);
  for (const int n_lanes : {1, 3}) {
    // Also with room for fewer rows at a time than there are.
    for (const int64_t max_sequences : {1, 8}) {
      const std::vector<float> together =
          texts.Run({3, 1, 0, 7, 2, 6, 5, 4}, n_lanes, CpuKernels(), max_sequences);
      size_t at = 0;
      for (const size_t s : {3, 1, 0, 7, 2, 6, 5, 4}) {
        const std::vector<float> alone = texts.Run({s}, n_lanes);
        EXPECT_TRUE(
            std::equal(alone.begin(), alone.end(), together.begin() + static_cast<ptrdiff_t>(at)))
            << "sequence " << s;
        at += alone.size();
      }
    }
  }
}

// With a processor's cache of 256 KiB, a quarter of what one sequence reads.
TEST(SharedAttention, WhatIsSharedIsReadOnce) {
  SharedTexts texts(8);
  const KernelTable kernels = WatchedKernels();
  const auto fetched = [&](const std::vector<size_t>& which) {
    FetchedBytes bytes(256 << 10);
    watched = &bytes;
    texts.Run(which, 1, kernels);
    watched = nullptr;
    return static_cast<double>(bytes.bytes());
  };
  const double one = fetched({7});
  EXPECT_NEAR(one, 2052 * 2 * 2 * 64 * 2, 0.01 * one);  // keys and values of two heads
  const double eight = fetched({0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_LE(eight, 1.3 * one);
  std::cout << "eight sequences read " << eight / one << " times the bytes of one\n";
}

}  // namespace
}  // namespace thermocline
