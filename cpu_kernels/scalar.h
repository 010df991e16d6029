// The plain C++ kernels, for any machine. They keep the contracts of KernelTable.
#pragma once

#include "cpu_kernels/kernels.h"

namespace thermocline::scalar {

VectorForm vector_form(DType weights);
int64_t prepared_bytes(VectorForm form, int64_t n);
void prepare(VectorForm form, const float* x, int64_t n, void* out);
void prepare_rest(VectorForm form, const float* x, int64_t n, void* out);
void matvec(DType dtype, const std::byte* w, int64_t row_stride_bytes, int64_t n_cols,
            const void* x, const int32_t* rows, int64_t begin, int64_t end, float* out);
void matvec_tokens(DType dtype, const MatvecArgs& args);
void accumulate_rows(DType dtype, const std::byte* w, int64_t row_stride_bytes, const float* h,
                     const int32_t* rows, int64_t n_rows, int64_t col_begin, int64_t col_end,
                     float* y);
void accumulate_tokens(DType dtype, const AccumulateArgs& args);
void dequantize_f32(DType dtype, const std::byte* row, int64_t col_begin, int64_t col_end,
                    float* out);
void f32_to_f16_row(const float* x, int64_t n, uint16_t* out);
void f32_to_bf16_row(const float* x, int64_t n, uint16_t* out);
void f32_to_q8_0_row(const float* x, int64_t n, std::byte* out);

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out);
void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                float* out);
void rope(RopePairing pairing, float* head, int64_t rot_dim, const float* cos, const float* sin);
float exp_scores(float* x, int64_t n, float scale, float* m);
void activate(Activation activation, float* gate, int64_t n);
void drop_below(float* x, int64_t n, float threshold);
void cut_below(const float* x, const float* factors, float least, int64_t n, float* out);
void scale(float* x, int64_t n, float scale, float cap);
void multiply(float* x, const float* y, int64_t n);
void add(float* x, const float* y, int64_t n);
int64_t compact_nonzero(const float* values, int64_t n, int32_t base, int32_t* indices);
void pack_signs(const float* x, int64_t n, uint64_t* words);
void count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x, int64_t begin,
                            int64_t end, int32_t* out);
uint64_t sum_words(const uint64_t* words, int64_t n);

}  // namespace thermocline::scalar
