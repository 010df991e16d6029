#include "runtime/device/cpu/cpu_low_rank.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kSlots = 3;  // q, k, v; or gate, up, down
constexpr int64_t kSlotOfDown = 2;
constexpr int64_t kOutUnit =
    16;  // rows of B that a lane's share is cut at: a cache line of outputs

int64_t AddedFloats(const CpuDeviceLimits& limits) {
  return limits.adapter_rank == 0 ? 0 : AlignUp(std::max(limits.max_d_in, limits.max_neurons), 16);
}
uint64_t AddedBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(AddedFloats(limits) * limits.n_lanes) * sizeof(float);
}
uint64_t FactorBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(kSlots * limits.max_tokens * limits.adapter_rank) * sizeof(float);
}

}  // namespace

CpuLowRank::CpuLowRank(const KernelTable& kernels, const CpuDeviceLimits& limits)
    : kernels_(kernels),
      max_tokens_(limits.max_tokens),
      total_rank_(limits.adapter_rank),
      added_stride_(AddedFloats(limits)),
      inner_(FactorBytes(limits), "adapters"),
      added_(AddedBytes(limits), "adapters") {}

uint64_t CpuLowRank::Bytes(const CpuDeviceLimits& limits) {
  return AddedBytes(limits) + FactorBytes(limits);
}

template <typename Factors>
void CpuLowRank::MultiplyA(const Lane& lane, const AdapterRows& rows, int64_t slot, const float* x,
                           int64_t d_in, const Factors& factors) {
  DCHECK(rows.total_rank() == total_rank_);
  const int64_t stride = d_in * static_cast<int64_t>(sizeof(float));
  const auto [first, last] = lane.Split(total_rank_);
  for (const AdapterRows::Group& group : rows.groups()) {
    const LowRankMatrix& matrix = factors(static_cast<size_t>(group.adapter));
    const int64_t begin = std::max<int64_t>(first - group.offset, 0);
    const int64_t end = std::min(last - group.offset, matrix.rank);
    if (begin >= end) continue;
    for (const int32_t t : group.rows) {
      kernels_.matvec(DType::kF32, reinterpret_cast<const std::byte*>(matrix.a), stride, d_in,
                      x + t * d_in, nullptr, begin, end, inner(slot, t) + group.offset);
    }
  }
}

void CpuLowRank::AddProducts(const Lane& lane, const AdapterRows& rows,
                             std::span<const AttentionLowRank> adapters,
                             std::span<const LowRankOp> ops, const float* x, int64_t n,
                             int64_t d_in) {
  DCHECK(n <= max_tokens_ && ops.size() <= kSlots);
  int64_t slot = 0;
  for (const LowRankOp& op : ops) {
    MultiplyA(lane, rows, slot++, x, d_in,
              [&](size_t adapter) -> const LowRankMatrix& { return adapters[adapter].*op.matrix; });
  }
  lane.Sync();
  slot = 0;
  for (const LowRankOp& op : ops) {
    const auto [begin, end] = lane.Split(op.d_out, kOutUnit);
    for (const AdapterRows::Group& group : rows.groups()) {
      const LowRankMatrix& matrix = adapters[static_cast<size_t>(group.adapter)].*op.matrix;
      if (matrix.rank == 0 || begin == end) continue;
      float* const sum = added(lane.rank);
      for (const int32_t t : group.rows) {
        kernels_.matvec(DType::kF32, reinterpret_cast<const std::byte*>(matrix.b),
                        matrix.rank * static_cast<int64_t>(sizeof(float)), matrix.rank,
                        inner(slot, t) + group.offset, nullptr, begin, end, sum);
        kernels_.add(op.out + t * op.d_out + begin, sum + begin, end - begin);
      }
    }
    ++slot;
  }
  lane.Sync();
}

void CpuLowRank::PrepareFfn(const Lane& lane, const FfnOp& op, const float* x, int64_t n) {
  DCHECK(n <= max_tokens_);
  const int64_t d_model = op.slice->d_model();
  MultiplyA(lane, *op.adapter_rows, static_cast<int64_t>(Target::kGate), x, d_model,
            [&](size_t adapter) -> const LowRankMatrix& { return op.adapters[adapter].gate; });
  MultiplyA(lane, *op.adapter_rows, static_cast<int64_t>(Target::kUp), x, d_model,
            [&](size_t adapter) -> const LowRankMatrix& { return op.adapters[adapter].up; });
  lane.Sync();
}

void CpuLowRank::AddTo(int rank, const FfnOp& op, Target target, int64_t token, const int32_t* rows,
                       int64_t begin, int64_t end, float* out) {
  float* const sum = added(rank);
  for (const int32_t g : op.adapter_rows->of_row(token)) {
    const AdapterRows::Group& group = op.adapter_rows->groups()[static_cast<size_t>(g)];
    const FfnLowRank& adapter = op.adapters[static_cast<size_t>(group.adapter)];
    const LowRankMatrix& matrix = target == Target::kGate ? adapter.gate : adapter.up;
    if (matrix.rank == 0) continue;
    kernels_.matvec(DType::kF32, reinterpret_cast<const std::byte*>(matrix.b),
                    matrix.rank * static_cast<int64_t>(sizeof(float)), matrix.rank,
                    inner(static_cast<int64_t>(target), token) + group.offset, rows, begin, end,
                    sum);
    kernels_.add(out + begin, sum + begin, end - begin);
  }
}

void CpuLowRank::SumDown(const FfnOp& op, int64_t token, const float* h, const int32_t* rows,
                         int64_t first, int64_t n, float* sums) const {
  for (const int32_t g : op.adapter_rows->of_row(token)) {
    const AdapterRows::Group& group = op.adapter_rows->groups()[static_cast<size_t>(g)];
    const LowRankMatrix& down = op.adapters[static_cast<size_t>(group.adapter)].down;
    if (down.rank == 0) continue;
    const auto* a = reinterpret_cast<const std::byte*>(down.a + (rows ? 0 : first * down.rank));
    kernels_.accumulate_rows(DType::kF32, a, down.rank * static_cast<int64_t>(sizeof(float)), h,
                             rows, n, 0, down.rank, sums + group.offset);
  }
}

void CpuLowRank::AddDown(const FfnOp& op, int64_t token, const float* sums, int64_t begin,
                         int64_t end, float* y) const {
  const int64_t d_model = op.slice->d_model();
  for (const int32_t g : op.adapter_rows->of_row(token)) {
    const AdapterRows::Group& group = op.adapter_rows->groups()[static_cast<size_t>(g)];
    const LowRankMatrix& down = op.adapters[static_cast<size_t>(group.adapter)].down;
    if (down.rank == 0) continue;
    kernels_.accumulate_rows(DType::kF32, reinterpret_cast<const std::byte*>(down.b),
                             d_model * static_cast<int64_t>(sizeof(float)), sums + group.offset,
                             nullptr, down.rank, begin, end, y);
  }
}

void CpuLowRank::AddDownOfAll(const Lane& lane, const FfnOp& op, const float* h, int64_t n,
                              float* y) {
  const int64_t m = op.slice->n_neurons;
  const int64_t d_model = op.slice->d_model();
  const auto [first, last] = lane.Split(n);
  for (int64_t t = first; t < last; ++t) {
    std::fill_n(inner(kSlotOfDown, t), total_rank_, 0.0F);
    SumDown(op, t, h + t * m, nullptr, 0, m, inner(kSlotOfDown, t));
  }
  lane.Sync();
  const auto [begin, end] = lane.Split(d_model, kOutUnit);
  for (int64_t t = 0; t < n && begin < end; ++t) {
    AddDown(op, t, inner(kSlotOfDown, t), begin, end, y + t * d_model);
  }
  lane.Sync(PassPart::kDown);
}

}  // namespace thermocline
