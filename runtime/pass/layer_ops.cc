#include "runtime/pass/layer_ops.h"

#include "gpu_kernels/base/trace_range.h"
#include "runtime/pass/stream_ops.h"

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

// How heads of queries or keys are normalised.
NormOp MakeHeadNorm(const PassContext& context, int64_t layer, const NormWeights& weights,
                    int64_t n_heads) {
  NormOp norm = MakeNorm(context, layer, weights);
  const QkNorm kind = context.config.layer(layer).attention.qk_norm;
  if (kind != QkNorm::kWide) norm.groups = n_heads;
  norm.own_weights = kind == QkNorm::kEachHead;
  return norm;
}

void AddAdapters(PassContext& context, const Lane& lane, int64_t layer,
                 std::span<const LowRankOp> ops, const float* x, int64_t n, int64_t d_in) {
  context.fast().AddLowRank(lane, context.adapter_rows,
                            context.adapters->attention[static_cast<size_t>(layer)], ops, x, n,
                            d_in);
}

// Returns attention to the encoder's text, which knows no distances.
AttentionOp MakeCrossAttention(const PassContext& context, int64_t layer, const Pass& pass) {
  AttentionOp op = MakeAttention(context, layer, pass);
  op.bias = {};
  op.sees_encoder = true;
  return op;
}

// Returns the cut of a matrix's input, or null where nothing is left out.
const ChannelCut* CutOf(const LayerCuts* cuts, ChannelCut LayerCuts::*matrix) {
  return cuts != nullptr && (cuts->*matrix).least > 0 ? &(cuts->*matrix) : nullptr;
}

// Returns whether the FFN's outputs go to the residual stream as they are.
bool AddsAsItIs(const PassContext& context, const LayerWeights& w) {
  return !w.ffn_post_norm && context.config.residual_scale == 1;
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

float* FfnTarget(const PassContext& context, int64_t layer) {
  const LayerWeights& w = context.weights.layers[static_cast<size_t>(layer)];
  return AddsAsItIs(context, w) ? context.state.x : context.state.proj;
}

void RunLayer(PassContext& context, const Lanes& lanes, int64_t layer, const Pass& pass,
              LayerFfn& ffn) {
  const ModelConfig& c = context.config;
  const LayerWeights& w = context.weights.layers[static_cast<size_t>(layer)];
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const KvCache& cache = context.cache;
  const Lane& all = lanes.all;
  const int64_t n = pass.n();
  const int64_t d = c.d_model;
  const AttentionConfig& a = c.layer(layer).attention;
  const bool own_kv = a.has_own_kv();
  const AttentionOp attention = MakeAttention(context, layer, pass);
  const LayerCuts* const cuts = context.CutsOf(layer);
  const LinearOp qkv[] = {{&w.wq, s.q, CutOf(cuts, &LayerCuts::q)},
                          {&w.wk, s.k, CutOf(cuts, &LayerCuts::k)},
                          {&w.wv, s.v, CutOf(cuts, &LayerCuts::v)}};
  const LinearOp output[] = {{&w.wo, s.proj, CutOf(cuts, &LayerCuts::o)}};
  const LinearOp cross_q[] = {{&w.cross_q, s.q}};
  const LinearOp cross_output[] = {{&w.cross_o, s.proj}};
  const LowRankOp qkv_added[] = {{&AttentionLowRank::wq, s.q, a.q_dim()},
                                 {&AttentionLowRank::wk, s.k, a.kv_dim()},
                                 {&AttentionLowRank::wv, s.v, a.kv_dim()}};
  const LowRankOp output_added[] = {{&AttentionLowRank::wo, s.proj, d}};
  const bool parallel = c.layer(layer).block == BlockKind::kParallel;
  // In a parallel block one norm may serve both.
  const NormWeights& attn_norm = parallel && !w.attn_norm ? w.ffn_norm : w.attn_norm;
  const NormWeights& ffn_norm = parallel && !w.ffn_norm ? w.attn_norm : w.ffn_norm;
  float* const ffn_x = FfnInput(context, layer);
  const float* const added[] = {s.proj};
  const size_t n_qkv = own_kv ? 3 : 1;

  const TraceRange range("layer", layer);
  all.MarkLayer(layer);
  if (c.streams.several()) PredictStreams(context, all, layer, n);
  fast.Norm(all, MakeNorm(context, layer, attn_norm), s.x, n, d, s.xn);
  fast.Linear(all, std::span(qkv).first(n_qkv), s.xn, n);
  if (context.adapts()) {
    AddAdapters(context, all, layer, std::span(qkv_added).first(n_qkv), s.xn, n, d);
  }
  if (w.q_norm) {
    fast.Norm(all, MakeHeadNorm(context, layer, w.q_norm, a.n_heads), s.q, n, a.q_dim(), s.q);
  }
  if (w.k_norm) {
    fast.Norm(all, MakeHeadNorm(context, layer, w.k_norm, a.n_kv_heads), s.k, n, a.kv_dim(), s.k);
  }
  if (w.v_norm) {
    const NormOp norm = {NormKind::kRms, w.v_norm, c.norm_eps, a.n_kv_heads};
    fast.Norm(all, norm, s.v, n, a.kv_dim(), s.v);
  }
  all.Mark(PassPart::kQkv);
  fast.RopeAppend(all, context.rope(layer), cache, attention, s.q, own_kv ? s.k : nullptr,
                  own_kv ? s.v : nullptr);
  all.Mark(PassPart::kRope);
  fast.Attend(all, cache, attention, s.q, s.att);
  all.Mark(PassPart::kAttention);
  if (w.attn_sub_norm) {
    fast.Norm(all, MakeNorm(context, layer, w.attn_sub_norm), s.att, n, a.q_dim(), s.att);
  }
  fast.Linear(all, output, s.att, n);
  if (context.adapts()) AddAdapters(context, all, layer, output_added, s.att, n, a.q_dim());
  all.Mark(PassPart::kOutput);
  if (w.attn_post_norm) {
    fast.Norm(all, MakeNorm(context, layer, w.attn_post_norm), s.proj, n, d, s.proj);
  }
  if (c.residual_scale != 1) fast.Scale(all, s.proj, c.residual_scale, 0, n * d);
  if (w.cross_norm) {
    fast.AddNorm(all, MakeNorm(context, layer, w.cross_norm), s.x, s.proj, n, d, s.xn);
    fast.Linear(all, cross_q, s.xn, n);
    all.Mark(PassPart::kQkv);
    fast.Attend(all, cache, MakeCrossAttention(context, layer, pass), s.q, s.att);
    all.Mark(PassPart::kAttention);
    fast.Linear(all, cross_output, s.att, n);
    all.Mark(PassPart::kOutput);
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
  ffn.Ffn(lanes, layer, pass);
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
    fast.RopeAppend(lane, no_rope, context.cache, MakeCrossAttention(context, layer, pass), s.q,
                    s.k, s.v);
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
