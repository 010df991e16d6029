#include "runtime/pass/stream_ops.h"

#include <cmath>

#include "runtime/pass/layer_ops.h"

namespace thermocline {
namespace {

constexpr float kHalfRoot = 0.70710678F;  // sqrt(1 / 2)

const LayerWeights& WeightsOf(const PassContext& context, int64_t layer) {
  return context.weights.layers[static_cast<size_t>(layer)];
}

// state.route = tanh(router(norm(x) / d_model)).
void Route(PassContext& context, const Lane& lane, int64_t layer, const float* x, int64_t n) {
  const LayerWeights& w = WeightsOf(context, layer);
  const RunState& s = context.state;
  const int64_t d = context.config.d_model;
  const LinearOp router[] = {{&w.router, s.route}};
  context.fast().Norm(lane, MakeNorm(context, layer, w.router_norm), x, n, d, s.side);
  context.fast().Linear(lane, router, s.side, n);
  context.fast().Scale(lane, s.route, 1 / static_cast<float>(d), 1, n * context.config.streams.n);
}

StreamsOp MakeStreamsOp(const PassContext& context, const float* coef) {
  const StreamsConfig& streams = context.config.streams;
  return {context.state.streams, streams.n, streams.active, context.state.route, coef};
}

}  // namespace

void EmbedLayers(PassContext& context, const Lane& lane, const Pass& pass) {
  const ModelConfig& c = context.config;
  const ModelWeights& w = context.weights;
  DeviceOps& fast = context.fast();
  float* const out = context.state.layer_embd;
  const int64_t n = pass.n();
  const int64_t width = c.layer_embds_dim();
  const LinearOp projection[] = {{&w.layer_embd_proj, out}};
  const NormOp norm = {NormKind::kRms, w.layer_embd_norm, c.norm_eps, c.n_layers};
  fast.Linear(lane, projection, context.state.x, n);
  fast.Scale(lane, out, 1 / std::sqrt(static_cast<float>(c.d_model)), 0, n * width);
  fast.Norm(lane, norm, out, n, width, out);
  fast.AddTableRows(lane, w.layer_embd, pass.ids, std::sqrt(static_cast<float>(c.layer_embd_dim)),
                    out);
  fast.Scale(lane, out, kHalfRoot, 0, n * width);
}

void AddLayerEmbedding(PassContext& context, const Lane& lane, int64_t layer, int64_t n) {
  const ModelConfig& c = context.config;
  const LayerWeights& w = WeightsOf(context, layer);
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const int64_t d = c.d_model;
  const LinearOp gate[] = {{&w.layer_gate, s.low}};
  const LinearOp projection[] = {{&w.layer_proj, s.side}};
  const float* const added[] = {s.side};
  const bool several = c.streams.several();
  const float* x = several ? s.streams + c.streams.active * n * d : s.x;
  if (w.layer_gate_scale != nullptr) {
    fast.MultiplyRows(lane, x, w.layer_gate_scale, n, d, s.side);
    x = s.side;
  }
  fast.Linear(lane, gate, x, n);
  fast.ActivateMultiply(lane, c.activation, s.low, s.layer_embd + layer * c.layer_embd_dim,
                        c.layer_embds_dim(), n, c.layer_embd_dim);
  fast.Linear(lane, projection, s.low, n);
  fast.Norm(lane, MakeNorm(context, layer, w.layer_post_norm), s.side, n, d, s.side);
  if (!several) fast.Add(lane, s.x, added, n * d);
  for (int64_t i = 1; i < c.streams.n; ++i) fast.Add(lane, s.streams + i * n * d, added, n * d);
}

void AddLaurel(PassContext& context, const Lane& lane, int64_t layer, int64_t n) {
  const LayerWeights& w = WeightsOf(context, layer);
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const int64_t d = context.config.d_model;
  const LinearOp left[] = {{&w.laurel_left, s.low}};
  const LinearOp right[] = {{&w.laurel_right, s.side}};
  const float* const added[] = {s.proj, s.xn, s.side};
  fast.Linear(lane, left, s.xn, n);
  fast.Linear(lane, right, s.low, n);
  fast.Norm(lane, MakeNorm(context, layer, w.laurel_post_norm), s.side, n, d, s.side);
  fast.Add(lane, s.x, added, n * d);
  fast.Scale(lane, s.x, kHalfRoot, 0, n * d);
}

void EmbedStreams(PassContext& context, const Lane& lane, int64_t n) {
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const int64_t d = context.config.d_model;
  const float* const embeddings[] = {s.x};
  fast.Scale(lane, s.streams, 0, 0, n * d);
  fast.Add(lane, s.streams, embeddings, n * d);
  for (int64_t i = 1; i < context.config.streams.n; ++i) {
    float* const stream = s.streams + i * n * d;
    const LinearOp op[] = {{&context.weights.to_streams[static_cast<size_t>(i - 1)], stream}};
    fast.Linear(lane, op, s.x, n);
    fast.MatchRms(lane, s.x, n, d, stream);
  }
}

void PredictStreams(PassContext& context, const Lane& lane, int64_t layer, int64_t n) {
  const int64_t d = context.config.d_model;
  const RunState& s = context.state;
  Route(context, lane, layer, s.streams + context.config.streams.active * n * d, n);
  const StreamsOp op = MakeStreamsOp(context, WeightsOf(context, layer).predict_coef);
  context.fast().PredictStreams(lane, op, n, d, s.x);
}

void CorrectStreams(PassContext& context, const Lane& lane, int64_t layer, int64_t n) {
  Route(context, lane, layer, context.state.x, n);
  const StreamsOp op = MakeStreamsOp(context, WeightsOf(context, layer).correct_coef);
  context.fast().CorrectStreams(lane, op, n, context.config.d_model, context.state.x);
}

void MergeStreams(PassContext& context, const Lane& lane, int64_t n) {
  const RunState& s = context.state;
  DeviceOps& fast = context.fast();
  const int64_t d = context.config.d_model;
  const float* const first[] = {s.streams};
  const float* const other[] = {s.side};
  fast.Scale(lane, s.x, 0, 0, n * d);
  fast.Add(lane, s.x, first, n * d);
  for (int64_t i = 1; i < context.config.streams.n; ++i) {
    const LinearOp op[] = {{&context.weights.from_streams[static_cast<size_t>(i - 1)], s.side}};
    fast.Linear(lane, op, s.streams + i * n * d, n);
    fast.MatchRms(lane, s.streams, n, d, s.side);
    fast.Add(lane, s.x, other, n * d);
  }
  fast.Scale(lane, s.x, 1 / static_cast<float>(context.config.streams.n), 0, n * d);
}

}  // namespace thermocline
