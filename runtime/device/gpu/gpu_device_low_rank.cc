// Adapters on the GPU: what they add to attention's products and to those of the FFN.
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_device.h"

namespace thermocline {

void GpuDevice::AddLowRank(const Lane& /*lane*/, const AdapterRows& /*rows*/,
                           std::span<const AttentionLowRank> adapters,
                           std::span<const LowRankOp> ops, const float* x, int64_t n,
                           int64_t d_in) {
  ForgetPrepared();
  CHECK(low_rank_ != nullptr && n == n_tokens_);
  SentPass();  // with the rows that BeginPass was given
  std::vector<GpuLowRank::Product> products;
  for (const LowRankOp& op : ops) {
    products.push_back(GpuLowRank::MakeProduct(adapters, op.matrix, op.out, op.d_out));
  }
  low_rank_->Add(stream_, products, x, d_in, GpuLowRankInto::kAdd);
}

GpuDevice::AddedToFfn GpuDevice::AddToGateAndUp(const FfnOp& op, const float* x,
                                                const FfnState& state, GpuLowRankInto into) {
  if (op.adapters.empty()) return {};
  SentPass();
  const int64_t m = op.slice->n_neurons;
  std::vector<GpuLowRank::Product> products;
  const auto add = [&](LowRankMatrix FfnLowRank::*matrix, float* out) -> const float* {
    auto product = GpuLowRank::MakeProduct(op.adapters, matrix, out, m);
    if (!product.changes()) return nullptr;
    products.push_back(std::move(product));
    return out;
  };
  const AddedToFfn added = {add(&FfnLowRank::gate, state.gate),
                            op.slice->is_gated() ? add(&FfnLowRank::up, state.up) : nullptr};
  low_rank_->Add(stream_, products, x, op.slice->gate.cols, into);
  return added;
}

void GpuDevice::AddToAuditedGates(const FfnOp& op, const float* x, float* gates) {
  if (op.adapters.empty()) return;
  SentPass();
  const auto product =
      GpuLowRank::MakeProduct(op.adapters, &FfnLowRank::gate, gates, op.slice->n_neurons);
  low_rank_->Add(stream_, {&product, 1}, x, op.slice->gate.cols, GpuLowRankInto::kAdd);
}

void GpuDevice::AddToDown(const FfnOp& op, const FfnState& state) {
  if (op.adapters.empty()) return;
  const FfnSlice& slice = *op.slice;
  const auto product =
      GpuLowRank::MakeProduct(op.adapters, &FfnLowRank::down, state.y, slice.gate.cols);
  low_rank_->Add(stream_, {&product, 1}, state.gate, slice.n_neurons, GpuLowRankInto::kAdd);
}

}  // namespace thermocline
