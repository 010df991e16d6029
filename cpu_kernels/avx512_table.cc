#include "cpu_kernels/avx512.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/simd_table.h"

namespace thermocline::avx512 {

void fill_table(KernelTable* table) { SimdKernels<Simd>::fill(table); }

void matvec_float(DType dtype, const MatvecArgs& args) {
  SimdKernels<Simd>::matvec_float(dtype, args);
}

}  // namespace thermocline::avx512
