// What the AVX2 translation units offer. Needs AVX2, FMA and F16C at run time.
#pragma once

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/kernels.h"

namespace thermocline::avx2 {

// Everything but vector_form, prepared_bytes, prepare and matvec.
void fill_table(KernelTable* table);
void matvec_float(DType dtype, const MatvecArgs& args);  // x: kF32

// VectorForm::kQ8 of this instruction set, and the products with it (Q8_0, Q4_0).
int64_t q8_bytes(int64_t n);
void prepare_q8(const float* x, int64_t n, void* out);
void matvec_quantised(DType dtype, const MatvecArgs& args);

}  // namespace thermocline::avx2
