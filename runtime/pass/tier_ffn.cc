#include "runtime/pass/tier_ffn.h"

#include "gpu_kernels/base/trace_range.h"

namespace thermocline {

FfnOp TierFfn::MakeOp(int64_t layer, size_t tier, int64_t n) const {
  const PassContext& c = context_;
  FfnOp op = context_.MakeFfnOp(layer, c.slice(layer, tier));
  if (c.adapts()) {
    op.adapters = c.adapters->ffn[static_cast<size_t>(layer)][tier];
    op.adapter_rows = &c.adapter_rows;
  }
  SparseMode mode = c.options.mode;
  if (c.observer != nullptr || mode == SparseMode::kDense) return op;
  if (c.CountsFired(n)) op.fired = (*c.fired)[static_cast<size_t>(layer)][tier];
  if (mode == SparseMode::kThreshold) {
    mode = c.cuts->ffn_mode;
    if (mode == SparseMode::kDense) return op;
  }
  if (mode == SparseMode::kThreshold) {
    const LayerCuts* const cuts = c.CutsOf(layer);
    if (cuts == nullptr) return op;
    op.cuts = &cuts->ffn[tier];
    op.skip_inactive = op.cuts->by_gate;
    return op;
  }
  op.skip_inactive = c.config.layer(layer).ffn.has_true_zeros();
  if (!c.skip_rows.empty()) op.skip_rows = c.skip_rows[static_cast<size_t>(layer)];
  // With one tier every neuron is asked about, with several those of the others.
  const bool predicted = tier > 0 || c.tiers.size() == 1;
  if (mode != SparseMode::kPredicted || !predicted) return op;
  const SlicePredictor& predictor = c.predictors[static_cast<size_t>(layer)][tier];
  if (predictor.runs) op.predictor = &predictor;
  op.audit = c.audit;
  return op;
}

void TierFfn::RunTier(const Lane& lane, size_t tier, const FfnOp& op, const float* x, int64_t n) {
  const Tier& t = context_.tiers[tier];
  const auto began = ReadPace::Clock::now();
  const FfnCount count = t.device->Ffn(lane, op, x, n, t.state);
  if (lane.rank == 0 && t.pace != nullptr) {
    ReadPace::WaitUntil(t.pace->Due(began, ReadBytes(*op.slice, count)));
  }
  if (lane.rank == 0) context_.counts[static_cast<size_t>(op.layer)][tier] = count;
}

void TierFfn::RunFastTier(const Lane& lane, int64_t layer, const Pass& pass) {
  FfnOp op = MakeOp(layer, 0, pass.n());
  op.predictor_x = PredictorInputOf(context_, layer, 0);
  RunTier(lane, 0, op, FfnInput(context_, layer), pass.n());
}

void TierFfn::AddFast(const Lane& lane, int64_t layer, const Pass& pass) {
  const float* const y[] = {context_.tiers.front().state.y};
  context_.fast().Add(lane, FfnTarget(context_, layer), y, pass.n() * context_.config.d_model);
}

void TierFfn::RunSlowTier(const Lane& lane, size_t tier, int64_t layer, const Pass& pass) {
  Handover& handover = *context_.tiers[tier].handover;
  const uint32_t index = context_.HandoversBefore(tier, layer, pass);
  const TraceRange range("cold FFN", layer);
  lane.MarkLayer(layer);
  handover.AwaitInput(lane, index);
  lane.Mark(PassPart::kAwait);
  FfnOp op = MakeOp(layer, tier, pass.n());
  const bool apart = op.predictor != nullptr &&
                     PredictorInputOf(context_, layer, tier) != FfnInput(context_, layer);
  op.predictor_x = apart ? handover.predictor_x() : handover.x();
  RunTier(lane, tier, op, handover.x(), pass.n());
  if (lane.rank == 0) handover.SendOutput(index);
}

void TierFfn::Run(const Lanes& lanes, int64_t layer, const Pass& pass) {
  PassContext& c = context_;
  const int64_t n = pass.n();
  const float* const x = FfnInput(c, layer);
  const bool fast = c.Has(layer, 0);
  size_t n_used = 0;
  for (size_t tier = 0; tier < c.tiers.size(); ++tier) n_used += c.Has(layer, tier) ? 1 : 0;
  const bool alone = n_used == 1;

  if (lanes.all.rank == 0 && (!fast || !alone)) {
    for (size_t tier = 1; tier < c.tiers.size(); ++tier) {
      if (!c.Has(layer, tier)) continue;
      const float* const predictor_x = PredictorInputOf(c, layer, tier);
      const bool asks = MakeOp(layer, tier, n).predictor != nullptr;
      c.tiers[tier].handover->SendInput(x, asks && predictor_x != x ? predictor_x : nullptr, n);
    }
    lanes.all.Mark(PassPart::kSend);
  }
  if (fast) {
    if (const auto lane = lanes.Of(0, alone)) RunFastTier(*lane, layer, pass);
  }
  for (size_t tier = 1; tier < c.tiers.size(); ++tier) {
    if (!c.Has(layer, tier)) continue;
    if (const auto lane = lanes.Of(tier, alone)) RunSlowTier(*lane, tier, layer, pass);
  }
  if (fast && alone) return AddFast(lanes.all, layer, pass);
  // In the tiers' order, so that sums are the same from run to run.
  const float* y_fast = fast ? c.tiers.front().state.y : nullptr;
  for (size_t tier = 1; tier < c.tiers.size(); ++tier) {
    if (!c.Has(layer, tier)) continue;
    c.tiers[tier].handover->Merge(lanes.all, c.fast(), layer, c.HandoversBefore(tier, layer, pass),
                                  FfnTarget(c, layer), y_fast, n);
    y_fast = nullptr;
  }
}

}  // namespace thermocline
