#include "cpu_kernels/avx2_channels.h"
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/simd_table.h"

namespace thermocline::avx512 {
namespace {

struct Accumulate {
  template <DType kType>
  static void run(const AccumulateArgs& args) {
    if constexpr (kType == DType::kQ4_0) {
      accumulate_q4_0(args);
    } else if constexpr (kType == DType::kQ4_1) {
      accumulate_q4_1(args);
    } else {
      accumulate<Simd, kType>(args);
    }
  }
};

using Kernels = SimdKernels<Simd, Accumulate>;

}  // namespace

// Without VNNI wider registers would gain little where weights stay integers: AVX2's serve.
void fill_table(KernelTable* table) {
  Kernels::fill(table);
  table->accumulate_channels = avx2::accumulate_channels;
}

void accumulate_any(DType dtype, const AccumulateArgs& args) {
  VisitWeightType(dtype, [&](auto type) { Accumulate::template run<type()>(args); });
}

void matvec_float(DType dtype, const MatvecArgs& args) { Kernels::matvec_float(dtype, args); }

}  // namespace thermocline::avx512
