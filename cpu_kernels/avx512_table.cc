#include "cpu_kernels/avx512.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/simd_table.h"

namespace thermocline::avx512 {
namespace {

using Kernels = SimdKernels<Simd, accumulate_q4>;

}  // namespace

void fill_table(KernelTable* table) { Kernels::fill(table); }

void matvec_float(DType dtype, const MatvecArgs& args) { Kernels::matvec_float(dtype, args); }

}  // namespace thermocline::avx512
