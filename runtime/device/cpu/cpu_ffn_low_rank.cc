// Adapters in the FFN on the CPU. Gates and ups get B (A x) before the activation, so that the
// adapted gate decides which neurons are active; of down, A h is summed over active neurons alone,
// part by part as outputs are, and B is applied to the sum of the parts.
#include <algorithm>

#include "runtime/device/cpu/cpu_ffn.h"

namespace thermocline {

void CpuFfn::AddLowRank(const Part& part, CpuLowRank::Target target, int64_t token,
                        const int32_t* rows, int64_t begin, int64_t end, float* out) const {
  if (part.op.adapters.empty()) return;
  low_rank_.AddTo(part.lane_rank, part.op, target, token, rows, begin, end, out);
}

void CpuFfn::SumLowRank(const Part& part, int64_t token, const float* h, const int32_t* rows,
                        int64_t first, int64_t n) const {
  if (part.low_rank == nullptr) return;
  low_rank_.SumDown(part.op, token, h, rows, first, n, part.low_rank + token * adapter_rank_);
}

// Every lane adds up the parts of the tokens that it needs, in their order.
void CpuFfn::AddLowRankDown(const Lane& lane, const FfnOp& op, int64_t n, int64_t n_parts,
                            int64_t begin, int64_t end, float* y) {
  const int64_t d_model = op.slice->d_model();
  float* const sums = scratch(lane).low_rank.data();
  for (int64_t t = begin / d_model; t < n && t * d_model < end; ++t) {
    std::fill_n(sums, adapter_rank_, 0.0F);
    for (int64_t p = 0; p < n_parts; ++p) {
      kernels_.add(sums, part_low_rank_.as<float>() + (p * n + t) * adapter_rank_, adapter_rank_);
    }
    const int64_t first = std::max(begin - t * d_model, int64_t{0});
    low_rank_.AddDown(op, t, sums, first, std::min(end - t * d_model, d_model), y + t * d_model);
  }
}

}  // namespace thermocline
