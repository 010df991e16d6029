#include "runtime/pass/layer_ops.h"

#include "gpu_kernels/base/trace_range.h"

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
  context.fast().Embed(lane, context.weights.token_embd, pass.ids, context.state.x);
  lane.Mark(PassPart::kEmbed);
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
  const auto& [n_heads, n_kv_heads, head_dim] = c.layer(layer).attention;
  const AttentionOp attention{layer, pass.batch, pass.segments, n_heads, n_kv_heads, head_dim};
  const LinearOp qkv[] = {{&w.wq, s.q}, {&w.wk, s.k}, {&w.wv, s.v}};
  const LinearOp output[] = {{&w.wo, s.proj}};

  const TraceRange range("layer", layer);
  all.MarkLayer(layer);
  fast.RmsNorm(all, s.x, w.attn_norm, c.norm_eps, n, c.d_model, s.xn);
  fast.Linear(all, qkv, s.xn, n);
  all.Mark(PassPart::kQkv);
  fast.RopeAppend(all, context.rope(), cache, attention, s.q, s.k, s.v);
  all.Mark(PassPart::kRope);
  fast.Attend(all, cache, attention, s.q, s.att);
  all.Mark(PassPart::kAttention);
  fast.Linear(all, output, s.att, n);
  all.Mark(PassPart::kOutput);
  fast.AddRmsNorm(all, s.x, s.proj, w.ffn_norm, c.norm_eps, n, c.d_model, FfnInput(context, layer));
  all.Mark(PassPart::kNorm);
  ffn.Ffn(lanes, layer, pass);
  all.Mark(PassPart::kMerge);
}

void RunHead(PassContext& context, const Lane& lane, const Pass& pass) {
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  lane.MarkLayer(PassSpan::kNoLayer);
  const int64_t d = context.config.d_model;
  const LinearOp output[] = {{&context.weights.output, s.logits}};
  int64_t n_wanted = 0;
  for (int64_t begin = 0; begin < pass.n();) {
    int64_t end = begin;
    while (end < pass.n() && pass.batch->row(end).wants_logits) ++end;
    if (end > begin) {
      fast.RmsNorm(lane, s.x + begin * d, context.weights.output_norm, context.config.norm_eps,
                   end - begin, d, s.xn + n_wanted * d);
      n_wanted += end - begin;
    }
    begin = end + 1;
  }
  fast.Linear(lane, output, s.xn, n_wanted);
}

}  // namespace thermocline
