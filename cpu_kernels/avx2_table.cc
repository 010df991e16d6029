#include "cpu_kernels/avx2.h"
#include "cpu_kernels/avx2_channels.h"
#include "cpu_kernels/simd_avx2.h"
#include "cpu_kernels/simd_table.h"

namespace thermocline::avx2 {
namespace {

struct Accumulate {
  template <DType kType>
  static void run(const AccumulateArgs& args) {
    accumulate<Simd, kType>(args);
  }
};

using Kernels = SimdKernels<Simd, Accumulate>;

}  // namespace

void fill_table(KernelTable* table) {
  Kernels::fill(table);
  table->accumulate_channels = accumulate_channels;
}

void accumulate_any(DType dtype, const AccumulateArgs& args) {
  VisitWeightType(dtype, [&](auto type) { Accumulate::run<type()>(args); });
}

void matvec_float(DType dtype, const MatvecArgs& args) { Kernels::matvec_float(dtype, args); }

}  // namespace thermocline::avx2
