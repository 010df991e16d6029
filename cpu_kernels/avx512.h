// What the AVX-512 translation units offer. Needs AVX-512 F, BW, VL, DQ and CD at run time; the
// parts below, what their names say.
#pragma once

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/kernels.h"

namespace thermocline::avx512 {

// Everything but vector_form, prepared_bytes, prepare, matvec and the two of sign bits.
void fill_table(KernelTable* table);
void matvec_float(DType dtype, const MatvecArgs& args);  // x: kF32

void accumulate_q4(const AccumulateArgs& args);  // accumulate_rows of Q4_0

// With AVX512_VNNI: VectorForm::kQ8 and the products with it (Q8_0, Q4_0).
int64_t vnni_q8_bytes(int64_t n);
void vnni_prepare_q8(const float* x, int64_t n, void* out);
void vnni_matvec_quantised(DType dtype, const MatvecArgs& args);

// With AVX512_BF16: VectorForm::kBF16 and the products with it (BF16).
int64_t bf16_bytes(int64_t n);
void bf16_prepare(const float* x, int64_t n, void* out);
void bf16_matvec(const MatvecArgs& args);

// With AVX512_VPOPCNTDQ.
void vpopcnt_count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x,
                                    int64_t begin, int64_t end, int32_t* out);

}  // namespace thermocline::avx512
