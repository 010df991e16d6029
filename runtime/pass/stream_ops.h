// What a layer has beside attention and FFN, as lists of ops: several residual streams (AltUp,
// arXiv:2301.13310), a low-rank block (LAuReL, arXiv:2411.07501), an embedding of its own. All are
// called by every lane, for the n rows of a pass.
#pragma once

#include <cstdint>

#include "runtime/pass/pass.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {

// state.layer_embd = what all layers embed of the pass's tokens. REQUIRES: the embeddings in
// state.x; layer_embd_dim > 0.
void EmbedLayers(PassContext& context, const Lane& lane, const Pass& pass);
// Joins the layer's own embedding to its output: to all streams but the first, or to the one there
// is. REQUIRES: layer_embd_dim > 0.
void AddLayerEmbedding(PassContext& context, const Lane& lane, int64_t layer, int64_t n);

// state.x = (x + attention + xn + norm(right(left xn))) / sqrt(2), with attention's output in
// state.proj and its input in state.xn. REQUIRES: laurel_rank > 0.
void AddLaurel(PassContext& context, const Lane& lane, int64_t layer, int64_t n);

// These REQUIRE several streams. x is what the layer computes with.
// state.streams = the streams that a pass starts with, of the embeddings in state.x.
void EmbedStreams(PassContext& context, const Lane& lane, int64_t n);
// Predicts the streams behind the layer, and puts the active one into state.x.
void PredictStreams(PassContext& context, const Lane& lane, int64_t layer, int64_t n);
// Corrects them by what the layer made of state.x.
void CorrectStreams(PassContext& context, const Lane& lane, int64_t layer, int64_t n);
// state.x = the mean of the streams, each taken back to what the first is.
void MergeStreams(PassContext& context, const Lane& lane, int64_t n);

}  // namespace thermocline
