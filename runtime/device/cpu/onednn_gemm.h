// f32 matrix products by oneDNN on the calling thread, for instruction sets that have no GEMM
// kernels of ours.
#pragma once

#include <cstdint>
#include <memory>

namespace thermocline {

// c: (m, n) = a: (m, k) b: (k, n), by their strides. It is added to c where `accumulate` is set.
struct F32Product {
  bool accumulate;
  int64_t m, k, n;
  int64_t lda;
  int64_t ldb_k, ldb_n;  // strides of b along k and n
  int64_t ldc;
};

class OneDnnGemm {
 public:
  OneDnnGemm();
  ~OneDnnGemm();
  void Run(const F32Product& product, const float* a, const float* b, float* c);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline
