#include "runtime/threads/sgemm.h"

#include <dnnl.h>

#include "runtime/core/error.h"
#include "runtime/core/held_signals.h"

namespace thermocline {

void Sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
           int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc) {
  const HeldSignals held;
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k,
                                          1.0F, a, lda, b, ldb, 0.0F, c, ldc);
  CHECK(status == dnnl_success);
}

}  // namespace thermocline
