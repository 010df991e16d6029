// The attention of a layer on the tier that has its weights, keys and values.
#pragma once

#include <cstdint>

#include "runtime/pass/pass.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {

// By every lane of a group that works on that tier: the layer's queries, keys and values of what
// lies in BuffersOf(layer).x, the cache, and the output, into BuffersOf(layer).out.
void Attend(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass);

// Where the fast tier does not reach that memory (AttendsAway): its side of the hand-over, by one
// lane. SendAttention hands over what attention reads, MergeAttention awaits the output, in proj.
void SendAttention(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass);
void MergeAttention(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass);
// The other side, by every lane.
void AttendAway(PassContext& context, const Lane& lane, int64_t layer, const Pass& pass);

// Returns the layer's attention over the tokens that come before; over an encoder's text.
AttentionOp MakeAttention(const PassContext& context, int64_t layer, const Pass& pass);
AttentionOp MakeCrossAttention(const PassContext& context, int64_t layer, const Pass& pass);

}  // namespace thermocline
