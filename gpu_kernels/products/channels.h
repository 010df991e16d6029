// Inputs of matrices of which small channels are left out (TEAL, arXiv:2408.14690; WINA,
// arXiv:2505.19427), and products with matrices stored by column, which then read the rows of the
// channels that are left. For one token or a few (decode); batches are cut in place of a list.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/channel_cut.h"
#include "gpu_kernels/products/weight_layout.h"

namespace thermocline {

// For each token the channels that are read and their values. Where rows and counts are null, all
// are. Lies on the GPU.
struct GpuChannelList {
  const int32_t* rows = nullptr;    // (n_tokens, n) ascending
  const float* values = nullptr;    // (n_tokens, n)
  const int32_t* counts = nullptr;  // (n_tokens)
};
// Where a list is made.
struct GpuListMemory {
  int32_t* rows;
  float* values;
  int32_t* counts;

  GpuChannelList list() const { return {rows, values, counts}; }
};

// Lists the channels of each token: of tokens that are cut those that the cut keeps and that are
// not 0 (all where cut.least is 0), of others all. x: (n_tokens, n) f32. kept: one, how many were
// listed of tokens that are cut. listed: one, of all tokens; or null. All on the GPU. Asynchronous
// on `stream`; throws Error on launch.
void GpuListChannels(Stream& stream, const float* x, const GpuRowCut& cut, int64_t n_tokens,
                     int64_t n, const GpuListMemory& list, int32_t* kept, int32_t* listed);

// y[t, c] = sum over the list's channels of values[t, i] * W[rows[t, i], c] + bias[c]. w: (n,
// cols), a row per channel; bias: (cols) or null; y: (n_tokens, cols) f32. A token's channels are
// shared out evenly over the blocks of its columns. Sums are f32 in an order that depends on w's
// shape and type and on how many channels are listed: a token's y is the same bits beside any
// others. workspace: GpuColumnsBytes(w, n_tokens), 16-byte aligned. All on the GPU. Asynchronous on
// `stream`; throws Error on launch.
void GpuAddColumns(Stream& stream, const GpuMatrix& w, const GpuChannelList& list, int64_t n_tokens,
                   const float* bias, void* workspace, float* y);
uint64_t GpuColumnsBytes(const GpuMatrix& w, int64_t n_tokens);

// out[t, j] = x[t, j], or 0 where token t is cut and the channel is not kept. kept: one, how many
// are not 0 then of tokens that are cut; counts: (n_tokens), the same of each. x, out: (n_tokens,
// n) f32 on the GPU, as all else; out may be x. Asynchronous on `stream`; throws Error on launch.
void GpuCutChannels(Stream& stream, const float* x, const GpuRowCut& cut, int64_t n_tokens,
                    int64_t n, float* out, int32_t* counts, int32_t* kept);

}  // namespace thermocline
