// Several residual streams on the GPU (AltUp, arXiv:2301.13310). All memory is memory that the GPU
// sees. Asynchronous on `stream`; throw Error on launch.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

inline constexpr int64_t kMaxGpuStreams = 16;

// n_streams streams of n_rows rows, and how much of each goes into another: c = coef route, row by
// row.
struct GpuStreams {
  float* streams = nullptr;      // (n_streams, n_rows, width)
  const float* route = nullptr;  // (n_rows, n_streams)
  const float* coef = nullptr;   // (n_c, n_streams)
  int64_t n_streams = 0;         // at most kMaxGpuStreams
  int64_t active = 0;
  int64_t n_rows = 0;
  int64_t width = 0;
};

// streams[i] += sum over j of c[i, j] streams[j] for all i at once, with n_c = n_streams^2; then
// x = the active stream. x: (n_rows, width) f32.
void GpuPredictStreams(Stream& stream, const GpuStreams& streams, float* x);

// streams[i] += (1 + c[i]) (x - streams[active]) for all i at once, with n_c = n_streams. x as
// above.
void GpuCorrectStreams(Stream& stream, const GpuStreams& streams, const float* x);

// Scales each row of x to the root mean square of the row of `like`. The mean square of its own
// counts as least_mean_square or more. x, like: (n_rows, width) f32.
void GpuMatchRms(Stream& stream, const float* like, float least_mean_square, int64_t n_rows,
                 int64_t width, float* x);

}  // namespace thermocline
