#include "runtime/pass/tier_attention.h"

#include "gpu_kernels/base/trace_range.h"
#include "runtime/pass/layer_ops.h"

namespace thermocline {
namespace {

// How heads of queries or keys are normalised.
NormOp MakeHeadNorm(const PassContext& context, int64_t layer, const NormWeights& weights,
                    int64_t n_heads) {
  NormOp norm = MakeNorm(context, layer, weights);
  const QkNorm kind = context.config.layer(layer).attention.qk_norm;
  if (kind != QkNorm::kWide) norm.groups = n_heads;
  norm.own_weights = kind == QkNorm::kEachHead;
  return norm;
}

// Returns the cut of a matrix's input, or null where nothing is left out.
const ChannelCut* CutOf(const LayerCuts* cuts, ChannelCut LayerCuts::*matrix) {
  return cuts != nullptr && (cuts->*matrix).least > 0 ? &(cuts->*matrix) : nullptr;
}

}  // namespace

namespace {

// Of the weights, and of the keys and values that the sequences' last rows see.
uint64_t AttentionBytes(const PassContext& context, const AttentionOp& op, const LayerWeights& w) {
  uint64_t n_bytes = 0;
  for (const LinearWeights* matrix : {&w.wq, &w.wk, &w.wv, &w.wo}) {
    if (!matrix->w.empty()) n_bytes += matrix->w.weight_bytes();
  }
  const auto row_bytes =
      static_cast<uint64_t>(2 * RowBytes(context.cache.dtype(), op.head_dim) * op.n_kv_heads);
  for (const BatchSegment& segment : op.segments) {
    const BatchRow& first = op.batch->row(segment.first_row);
    const int64_t last = segment.first_position + segment.n_rows - 1;
    // Of a branch only what lies in another order: the rest is the text, of which others tell.
    const int64_t from = first.branch < 0 ? op.FirstSeen(last) : op.batch->EndInOrder(first);
    n_bytes += static_cast<uint64_t>(last + 1 - from) * row_bytes;
  }
  return n_bytes;
}

}  // namespace

AttentionOp MakeAttention(const PassContext& context, int64_t layer, const Pass& pass) {
  const ModelConfig& c = context.config;
  const AttentionConfig& a = c.layer(layer).attention;
  const int64_t kv_layer = c.kv_layer(layer);
  AttentionOp op{kv_layer,   context.cache.layout().ClassOf(kv_layer),
                 pass.batch, pass.segments,
                 a.n_heads,  a.n_kv_heads,
                 a.head_dim, a.scale,
                 a.soft_cap, a.window};
  op.bias = {context.weights.layers[static_cast<size_t>(layer)].relative_bias,
             a.relative.max_distance};
  op.sees_encoder = c.in_encoder(layer);
  return op;
}

// It knows no distances.
AttentionOp MakeCrossAttention(const PassContext& context, int64_t layer, const Pass& pass) {
  AttentionOp op = MakeAttention(context, layer, pass);
  op.bias = {};
  op.sees_encoder = true;
  return op;
}

void Attend(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass) {
  const ModelConfig& c = context.config;
  const LayerWeights& w = context.weights.layers[static_cast<size_t>(layer)];
  const AttentionBuffers s = context.BuffersOf(layer);
  DeviceOps& device = *context.tiers[w.attention_tier].device;
  const KvCache& cache = context.cache.OfTier(w.attention_tier);
  const int64_t n = pass.n();
  const int64_t d = c.d_model;
  const AttentionConfig& a = c.layer(layer).attention;
  const bool own_kv = a.has_own_kv() && !pass.keeps_cache;
  const AttentionOp attention = MakeAttention(context, layer, pass);
  const LayerCuts* const cuts = context.CutsOf(layer);
  const LinearOp qkv[] = {{&w.wq, s.q, CutOf(cuts, &LayerCuts::q)},
                          {&w.wk, s.k, CutOf(cuts, &LayerCuts::k)},
                          {&w.wv, s.v, CutOf(cuts, &LayerCuts::v)}};
  const LinearOp output[] = {{&w.wo, s.out, CutOf(cuts, &LayerCuts::o)}};
  const LowRankOp qkv_added[] = {{&AttentionLowRank::wq, s.q, a.q_dim()},
                                 {&AttentionLowRank::wk, s.k, a.kv_dim()},
                                 {&AttentionLowRank::wv, s.v, a.kv_dim()}};
  const LowRankOp output_added[] = {{&AttentionLowRank::wo, s.out, d}};
  const size_t n_qkv = own_kv ? 3 : 1;
  const auto add_adapters = [&](std::span<const LowRankOp> ops, const float* x, int64_t d_in) {
    if (!context.adapts()) return;
    device.AddLowRank(lane, context.adapter_rows,
                      context.adapters->attention[static_cast<size_t>(layer)], ops, x, n, d_in);
  };
  ReadPace* const pace = context.tiers[w.attention_tier].pace.get();
  const auto began = ReadPace::Clock::now();
  device.Linear(lane, std::span(qkv).first(n_qkv), s.x, n);
  add_adapters(std::span(qkv_added).first(n_qkv), s.x, d);
  if (w.q_norm) {
    device.Norm(lane, MakeHeadNorm(context, layer, w.q_norm, a.n_heads), s.q, n, a.q_dim(), s.q);
  }
  if (w.k_norm) {
    device.Norm(lane, MakeHeadNorm(context, layer, w.k_norm, a.n_kv_heads), s.k, n, a.kv_dim(),
                s.k);
  }
  if (w.v_norm) {
    const NormOp norm = {NormKind::kRms, w.v_norm, c.norm_eps, a.n_kv_heads};
    device.Norm(lane, norm, s.v, n, a.kv_dim(), s.v);
  }
  lane.Mark(PassPart::kQkv);
  device.RopeAppend(lane, context.rope(layer), cache, attention, s.q, own_kv ? s.k : nullptr,
                    own_kv ? s.v : nullptr);
  lane.Mark(PassPart::kRope);
  device.Attend(lane, cache, attention, s.q, s.att);
  lane.Mark(PassPart::kAttention);
  if (w.attn_sub_norm) {
    device.Norm(lane, MakeNorm(context, layer, w.attn_sub_norm), s.att, n, a.q_dim(), s.att);
  }
  device.Linear(lane, output, s.att, n);
  add_adapters(output_added, s.att, a.q_dim());
  if (pace != nullptr && lane.rank == 0) {
    ReadPace::WaitUntil(pace->Due(began, AttentionBytes(context, attention, w)));
  }
  lane.Mark(PassPart::kOutput);
}

void SendAttention(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass) {
  context.tiers[context.AttentionTier(layer)].handover->SendInput(context.state.xn, nullptr,
                                                                  pass.n());
  lane.Mark(PassPart::kSend);
}

void MergeAttention(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass) {
  const size_t tier = context.AttentionTier(layer);
  float* const out = context.state.proj;
  context.fast().Scale(lane, out, 0, 0, pass.n() * context.config.d_model);
  context.tiers[tier].handover->Merge(lane, context.fast(), layer,
                                      context.HandoversBefore(tier, layer, pass) - 1, out, nullptr,
                                      pass.n());
  lane.Mark(PassPart::kMerge);
}

void AttendAway(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass) {
  const size_t tier = context.AttentionTier(layer);
  Handover& handover = *context.tiers[tier].handover;
  const uint32_t index = context.HandoversBefore(tier, layer, pass) - 1;
  const TraceRange range("attention away", layer);
  lane.MarkLayer(layer);
  handover.AwaitInput(lane, index);
  lane.Mark(PassPart::kAwait);
  Attend(context, lane, layer, pass);
  if (lane.rank == 0) handover.SendOutput(index);
}

}  // namespace thermocline
