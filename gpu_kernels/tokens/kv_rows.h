// Reading rows of the KV cache; for .cu files.
#pragma once

#include <cstring>
#include <type_traits>

#include "gpu_kernels/base/cuda_api.h"
#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/tokens/kv_planes.h"

namespace thermocline {

// Consecutive elements of a row, which one lane works on.
inline constexpr int kLaneElems = 8;
struct Eight {
  float x[kLaneElems];
};

__device__ inline float2 HalvesOf(unsigned both) {
  __half2 halves;
  memcpy(&halves, &both, sizeof(halves));
  return __half22float2(halves);
}

// The four signed bytes of a word.
__device__ inline float4 BytesOf(unsigned four) {
  const auto byte = [four](int i) {
    return static_cast<float>(static_cast<signed char>(four >> (8 * i)));
  };
  return make_float4(byte(0), byte(1), byte(2), byte(3));
}

struct F16Rows {
  const unsigned short* values;
  int64_t head_dim;
  // Elements at, at + 1, ... of a row. REQUIRES: at is a multiple of 8.
  __device__ Eight Load(int row, int at) const {
    const uint4 words = *reinterpret_cast<const uint4*>(values + row * head_dim + at);
    const float2 a = HalvesOf(words.x), b = HalvesOf(words.y);
    const float2 c = HalvesOf(words.z), d = HalvesOf(words.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
  }
};

struct Q8Rows {
  const signed char* quants;
  const unsigned short* scales;
  int64_t head_dim;
  __device__ Eight Load(int row, int at) const {
    const uint2 words = *reinterpret_cast<const uint2*>(quants + row * head_dim + at);
    const float scale = __half2float(__ushort_as_half(scales[(row * head_dim + at) / kQuantBlock]));
    const float4 a = BytesOf(words.x), b = BytesOf(words.y);
    return {{scale * a.x, scale * a.y, scale * a.z, scale * a.w, scale * b.x, scale * b.y,
             scale * b.z, scale * b.w}};
  }
};

// Keys and values of one head, by slot.
template <typename Rows>
struct KvRows {
  Rows keys;
  Rows values;
};
template <typename Rows>
__device__ inline KvRows<Rows> RowsOf(const GpuKvLayer& kv, int head) {
  const int64_t at = head * kv.n_slots * kv.head_dim;
  if constexpr (std::is_same_v<Rows, F16Rows>) {
    return {{static_cast<const unsigned short*>(kv.k) + at, kv.head_dim},
            {static_cast<const unsigned short*>(kv.v) + at, kv.head_dim}};
  } else {
    const int64_t scale_at = at / kQuantBlock;
    return {{static_cast<const signed char*>(kv.k) + at, kv.k_scales + scale_at, kv.head_dim},
            {static_cast<const signed char*>(kv.v) + at, kv.v_scales + scale_at, kv.head_dim}};
  }
}

// A window as kernels take it, which subtract it from positions: none is more than any context has.
inline constexpr int kNoWindow = 1 << 30;
inline int WindowOrAll(int64_t window) {
  return static_cast<int>(window == 0 || window > kNoWindow ? kNoWindow : window);
}

// The slot of a position whose text has its first page at first_page of the page table. REQUIRES: a
// row of the pass sees a position of that page.
__device__ inline int SlotOf(const GpuPass& pass, int first_page, int position) {
  const int page = pass.pages[first_page + position / kGpuKvPageTokens];
  return page * kGpuKvPageTokens + position % kGpuKvPageTokens;
}

// Where some positions of a segment lie that lie elsewhere than in its pages' order.
struct BranchSlots {
  int begin;         // of these positions, counted as Has counts
  const int* slots;  // of each of them
  __device__ bool Has(int p) const { return p >= begin; }
  __device__ int Of(int p) const { return slots[p - begin]; }
};
// For positions that are counted from `from`. An encoder's text has no branches.
__device__ inline BranchSlots BranchOf(const GpuPass& pass, const GpuPassSegment& segment,
                                       bool encoder, int from) {
  if (encoder || segment.branch_begin == kNoBranch) return {kNoBranch, nullptr};
  return {segment.branch_begin - from, pass.pages + segment.branch_slots};
}

}  // namespace thermocline
