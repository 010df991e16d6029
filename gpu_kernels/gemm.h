// Products of whole batches with a matrix, by cuBLAS.
#pragma once

#include <cstdint>

#include "gpu_kernels/device_memory.h"
#include "gpu_kernels/stream.h"

struct cublasContext;

namespace thermocline {

enum class GemmType : uint8_t { kF32, kF16, kBf16 };

// cuBLAS with a workspace of its own, so that its calls can be captured. For one stream at a time.
class GpuGemm {
 public:
  GpuGemm();
  ~GpuGemm();
  GpuGemm(const GpuGemm&) = delete;
  GpuGemm& operator=(const GpuGemm&) = delete;

  // y[t, r] = sum over c of x[t, c] * w[r, c]; with add = kAdd, added to what y holds.
  // w: (n_rows, n_cols), x: (n_tokens, n_cols), both of `type`; y: (n_tokens, n_rows) f32; all
  // row-major, on the GPU. Sums in f32. Asynchronous on `stream`; throws Error.
  enum class Result : uint8_t { kReplace, kAdd };
  void MatMul(Stream& stream, float* y, const void* w, const void* x, GemmType type, int n_tokens,
              int n_rows, int n_cols, Result result = Result::kReplace);

 private:
  cublasContext* handle_ = nullptr;
  DeviceMemory workspace_;
};

}  // namespace thermocline
