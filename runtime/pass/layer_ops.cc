#include "runtime/pass/layer_ops.h"

#include "gpu_kernels/base/trace_range.h"
#include "runtime/pass/stream_ops.h"
#include "runtime/pass/tier_attention.h"

namespace thermocline {

const float* PredictorInputOf(const PassContext& context, int64_t layer, size_t tier) {
  if (context.predictors.empty()) return FfnInput(context, layer);
  switch (context.predictors[static_cast<size_t>(layer)][tier].layer.input) {
    case PredictorInput::kNormed:
      return FfnInput(context, layer);
    case PredictorInput::kResidual:
      return context.state.x;
    case PredictorInput::kPreviousNormed:
      return FfnInput(context, layer + 1);  // the other one: of the layer before
  }
  return nullptr;
}

void EmbedRows(PassContext& context, const Lane& lane, const Pass& pass) {
  const ModelConfig& c = context.config;
  DeviceOps& fast = context.fast();
  float* const x = context.state.x;
  fast.Embed(lane, context.weights.token_embd, pass.ids, x);
  if (c.embedding_scale != 1) fast.Scale(lane, x, c.embedding_scale, 0, pass.n() * c.d_model);
  if (c.learned_positions) {
    fast.AddPositions(lane, context.weights.position_embd, *pass.batch, c.position_offset, x);
  }
  if (c.layer_embd_dim > 0) EmbedLayers(context, lane, pass);
  if (c.streams.several()) EmbedStreams(context, lane, pass.n());
  lane.Mark(PassPart::kEmbed);
}

NormOp MakeNorm(const PassContext& context, int64_t layer, const NormWeights& weights) {
  return {context.config.layer(layer).norm, weights, context.config.norm_eps};
}

namespace {

// Returns whether the FFN's outputs go to the residual stream as they are.
bool AddsAsItIs(const PassContext& context, const LayerWeights& w) {
  return !w.ffn_post_norm && context.config.residual_scale == 1;
}

// FfnTarget += what stands in for the neurons that a draft leaves out.
void AddStandIn(PassContext& context, const Lane& lane, int64_t layer, int64_t n) {
  const LayerStandIn& stand_in = context.weights.layers[static_cast<size_t>(layer)].stand_in;
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const float* const x = FfnInput(context, layer);
  float* const target = FfnTarget(context, layer);
  const int64_t d = context.config.d_model;
  const FfnState& ffn_state = context.tiers.front().state;
  for (const FfnSlice& slice : stand_in.slices) {
    FfnOp op = context.MakeFfnOp(layer, slice);
    op.skip_inactive = context.options.mode != SparseMode::kDense &&
                       context.config.layer(layer).ffn.has_true_zeros();
    fast.Ffn(lane, op, x, n, ffn_state);
    const float* const y[] = {ffn_state.y};
    fast.Add(lane, target, y, n * d);
  }
  if (stand_in.rank() > 0) {
    const LinearOp left[] = {{&stand_in.left, s.stand_in_low}};
    const LinearOp right[] = {{&stand_in.right, s.stand_in}};
    fast.Linear(lane, left, x, n);
    fast.Linear(lane, right, s.stand_in_low, n);
    const float* const y[] = {s.stand_in};
    fast.Add(lane, target, y, n * d);
  }
  if (stand_in.bias != nullptr) fast.AddBias(lane, target, stand_in.bias, n, d);
}

}  // namespace

float* FfnTarget(const PassContext& context, int64_t layer) {
  const LayerWeights& w = context.weights.layers[static_cast<size_t>(layer)];
  return AddsAsItIs(context, w) ? context.state.x : context.state.proj;
}

void RunLayer(PassContext& context, const Lanes& lanes, int64_t layer, const Pass& pass,
              LayerTiers& tiers) {
  const ModelConfig& c = context.config;
  const LayerWeights& w = context.weights.layers[static_cast<size_t>(layer)];
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const Lane& all = lanes.all;
  const int64_t n = pass.n();
  const int64_t d = c.d_model;
  const LinearOp cross_q[] = {{&w.cross_q, s.q}};
  const LinearOp cross_output[] = {{&w.cross_o, s.proj}};
  const bool parallel = c.layer(layer).block == BlockKind::kParallel;
  // In a parallel block one norm may serve both.
  const NormWeights& attn_norm = parallel && !w.attn_norm ? w.ffn_norm : w.attn_norm;
  const NormWeights& ffn_norm = parallel && !w.ffn_norm ? w.attn_norm : w.ffn_norm;
  float* const ffn_x = FfnInput(context, layer);
  const float* const added[] = {s.proj};

  const TraceRange range("layer", layer);
  all.MarkLayer(layer);
  if (c.streams.several()) PredictStreams(context, all, layer, n);
  fast.Norm(all, MakeNorm(context, layer, attn_norm), s.x, n, d, s.xn);
  tiers.Attention(lanes, layer, pass);
  if (w.attn_post_norm) {
    fast.Norm(all, MakeNorm(context, layer, w.attn_post_norm), s.proj, n, d, s.proj);
  }
  if (c.residual_scale != 1) fast.Scale(all, s.proj, c.residual_scale, 0, n * d);
  if (w.cross_norm) {
    fast.AddNorm(all, MakeNorm(context, layer, w.cross_norm), s.x, s.proj, n, d, s.xn);
    fast.Linear(all, cross_q, s.xn, n);
    all.Mark(PassPart::kQkv);
    fast.Attend(all, context.cache.OfTier(0), MakeCrossAttention(context, layer, pass), s.q, s.att);
    all.Mark(PassPart::kAttention);
    fast.Linear(all, cross_output, s.att, n);
    all.Mark(PassPart::kOutput);
  }
  if (pass.attention_only) {
    fast.Add(all, s.x, added, n * d);
    return;
  }
  float* const y = FfnTarget(context, layer);
  // Side by side, a predictor that reads the residual stream reads the layer's input. Where the FFN
  // writes into what attention gave, that has to be added first; such families have no such
  // predictors (PowerInfer's).
  const bool added_last = parallel && y == s.x;
  if (parallel) {
    fast.Norm(all, MakeNorm(context, layer, ffn_norm), s.x, n, d, ffn_x);
    if (!added_last) fast.Add(all, s.x, added, n * d);
  } else if (c.laurel_rank > 0) {
    AddLaurel(context, all, layer, n);
    fast.Norm(all, MakeNorm(context, layer, ffn_norm), s.x, n, d, ffn_x);
  } else {
    fast.AddNorm(all, MakeNorm(context, layer, ffn_norm), s.x, s.proj, n, d, ffn_x);
  }
  all.Mark(PassPart::kNorm);

  if (y != s.x) fast.Scale(all, y, 0, 0, n * d);
  tiers.Ffn(lanes, layer, pass);
  AddStandIn(context, all, layer, n);
  if (added_last) fast.Add(all, s.x, added, n * d);
  if (w.down_bias != nullptr) fast.AddBias(all, y, w.down_bias, n, d);
  if (y != s.x) {
    if (w.ffn_post_norm) fast.Norm(all, MakeNorm(context, layer, w.ffn_post_norm), y, n, d, y);
    if (c.residual_scale != 1) fast.Scale(all, y, c.residual_scale, 0, n * d);
    fast.Add(all, s.x, added, n * d);
  }
  if (c.streams.several()) CorrectStreams(context, all, layer, n);
  if (c.layer_embd_dim > 0) AddLayerEmbedding(context, all, layer, n);
  all.Mark(PassPart::kMerge);
}

void StoreEncoderOutput(PassContext& context, const Lane& lane, const Pass& pass) {
  const ModelConfig& c = context.config;
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const NormOp norm = {c.layer(0).norm, context.weights.encoder_norm, c.norm_eps};
  lane.MarkLayer(PassSpan::kNoLayer);
  fast.Norm(lane, norm, s.x, pass.n(), c.d_model, s.xn);
  for (int64_t layer = c.n_encoder_layers; layer < c.n_layers; ++layer) {
    const LayerWeights& w = context.weights.layers[static_cast<size_t>(layer)];
    const LinearOp keys_values[] = {{&w.cross_k, s.k}, {&w.cross_v, s.v}};
    fast.Linear(lane, keys_values, s.xn, pass.n());
    const RopeOp no_rope = {.layer_rope = LayerRope::kNone};
    fast.RopeAppend(lane, no_rope, context.cache.OfTier(0),
                    MakeCrossAttention(context, layer, pass), s.q, s.k, s.v);
  }
  lane.Mark(PassPart::kQkv);
}

void RunHead(PassContext& context, const Lane& lane, const Pass& pass) {
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  lane.MarkLayer(PassSpan::kNoLayer);
  const int64_t d = context.config.d_model;
  const LinearOp output[] = {{&context.weights.output, s.logits}};
  const NormOp norm = {context.config.layer(0).norm, context.weights.output_norm,
                       context.config.norm_eps};
  if (context.config.streams.several()) MergeStreams(context, lane, pass.n());
  int64_t n_wanted = 0;
  for (int64_t begin = 0; begin < pass.n();) {
    int64_t end = begin;
    while (end < pass.n() && pass.batch->row(end).wants_logits) ++end;
    if (end > begin) {
      fast.Norm(lane, norm, s.x + begin * d, end - begin, d, s.xn + n_wanted * d);
      n_wanted += end - begin;
    }
    begin = end + 1;
  }
  if (pass.wants_hidden) return;
  fast.Linear(lane, output, s.xn, n_wanted);
  const float scale = context.config.logit_scale;
  const float soft_cap = context.config.logit_soft_cap;
  if (scale != 1 || soft_cap != 0) {
    fast.Scale(lane, s.logits, scale, soft_cap, n_wanted * context.config.vocab_size);
  }
}

}  // namespace thermocline
