// Matrix products of offline work in f32, by oneDNN.
#pragma once

#include <cstdint>

namespace thermocline {

// c = op(a) op(b), row-major; op transposes where asked. op(a): (m, k), op(b): (k, n), c: (m, n).
// lda, ldb, ldc: floats from row to row as stored. Signals wait until it is done.
void Sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
           int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc);

}  // namespace thermocline
