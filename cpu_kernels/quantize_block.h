// One block of each quantised type, from its weights in f32 (cpu_kernels/quantize.cc calls these).
// x: the block's weights, all of them finite. importance: by how much the squared error of each
// counts, > 0. out: the block's bytes. Weights too large for the format become infinite or NaN, and
// too small ones 0.
#pragma once

#include <cstddef>

namespace thermocline {

// As ggml's reference rounds: the same bytes as other tools write.
void round_q8_0_block(const float* x, std::byte* out);
void round_q5_1_block(const float* x, std::byte* out);
void round_q5_0_block(const float* x, std::byte* out);
void round_q4_1_block(const float* x, std::byte* out);
void round_q4_0_block(const float* x, std::byte* out);

// With the least squared error that a search finds.
void fit_q5_1_block(const float* x, const float* importance, std::byte* out);
void fit_q5_0_block(const float* x, const float* importance, std::byte* out);
void fit_q4_1_block(const float* x, const float* importance, std::byte* out);
void fit_q4_0_block(const float* x, const float* importance, std::byte* out);
void fit_iq4_nl_block(const float* x, const float* importance, std::byte* out);
void fit_mxfp4_block(const float* x, const float* importance, std::byte* out);
void fit_q6_k_block(const float* x, const float* importance, std::byte* out);
void fit_q5_k_block(const float* x, const float* importance, std::byte* out);
void fit_q4_k_block(const float* x, const float* importance, std::byte* out);
void fit_q3_k_block(const float* x, const float* importance, std::byte* out);
void fit_q2_k_block(const float* x, const float* importance, std::byte* out);
void fit_s3_0_block(const float* x, const float* importance, std::byte* out);
void fit_s2_0_block(const float* x, const float* importance, std::byte* out);
void fit_iq4_xs_block(const float* x, const float* importance, std::byte* out);

}  // namespace thermocline
