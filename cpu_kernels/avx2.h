// What the AVX2 translation units offer. They need AVX2, FMA and F16C at run time.
#pragma once

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/kernels.h"

namespace thermocline::avx2 {

// Fills in everything but vector_form, prepared_bytes, prepare, matvec and the two of sign bits.
void fill_table(KernelTable* table);
void matvec_float(DType dtype, const MatvecArgs& args);  // x: kF32

// VectorForm::kQ8 of this instruction set, and the products with it (Q8_0, Q6_K, Q4_1, Q4_0).
int64_t q8_bytes(int64_t n);
void prepare_q8(const float* x, int64_t n, void* out);
void matvec_quantised(DType dtype, const MatvecArgs& args);

// Work on sign bits (also in the tables of wider units).
void pack_signs(const float* x, int64_t n, uint64_t* words);
void count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x, int64_t begin,
                            int64_t end, int32_t* out);

}  // namespace thermocline::avx2
