// A layer as a flat list of ops, for every model and every way to run.
#pragma once

#include <cstdint>

#include "runtime/pass/pass.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {

// How the FFN of a layer is shared out is for those who run the pass.
class LayerFfn {
 public:
  virtual ~LayerFfn() = default;
  // By every lane: FfnTarget(layer) += the FFN of FfnInput(layer), by all tiers.
  virtual void Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) = 0;
};

// What the FFN of a layer reads, and what a tier's predictor does. (n, d_model), on the fast tier.
inline float* FfnInput(const PassContext& context, int64_t layer) {
  return context.state.ffn_x[layer % 2];
}
// Where the tiers' outputs are added up: the residual stream, or proj where the sum is normalised
// or scaled first. (n, d_model), on the fast tier.
float* FfnTarget(const PassContext& context, int64_t layer);
const float* PredictorInputOf(const PassContext& context, int64_t layer, size_t tier);

// Returns the layer's attention to its own text.
AttentionOp MakeAttention(const PassContext& context, int64_t layer, const Pass& pass);
// Returns a norm of the kind that the layer has.
NormOp MakeNorm(const PassContext& context, int64_t layer, const NormWeights& weights);

// By every lane.
void EmbedRows(PassContext& context, const Lane& lane, const Pass& pass);
void RunLayer(PassContext& context, const Lanes& lanes, int64_t layer, const Pass& pass,
              LayerFfn& ffn);
// Of an encoder's text, behind its layers: stores what each of the decoder's layers attends to.
void StoreEncoderOutput(PassContext& context, const Lane& lane, const Pass& pass);
// The rows that want logits lie together in state.logits afterwards: (n_wanted, vocab_size).
// REQUIRES: some do.
void RunHead(PassContext& context, const Lane& lane, const Pass& pass);

}  // namespace thermocline
