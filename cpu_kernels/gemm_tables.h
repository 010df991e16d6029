// Which GEMM kernels go with which extensions.
#pragma once

#include "cpu_kernels/gemm.h"

namespace thermocline {

#if defined(THERMOCLINE_X86)
const GemmKernels& avx2_gemm();              // f32 and int8
const GemmKernels& avx2_vnni_gemm();         // f32, and int8 through AVX-VNNI
const GemmKernels& avx512_gemm();            // f32 alone
const GemmKernels& avx512_vnni_gemm();       // f32 and int8
const GemmKernels& avx512_vnni_bf16_gemm();  // f32, int8 and bf16
#endif

}  // namespace thermocline
