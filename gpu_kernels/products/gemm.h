// Products of whole batches with a matrix, by cuBLAS.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"

struct cublasContext;

namespace thermocline {

enum class GemmType : uint8_t { kF32, kF16, kBf16 };

// y[t, o] = sum over i of x[t, i] * w[o, i], or of x[t, i] * w[i, o]. w and x are of `type`, y is
// f32; all on the GPU, with `stride` elements from one row to the next.
struct GpuGemmProduct {
  GemmType type;
  enum class Weights : uint8_t { kRowPerOutput, kRowPerInput } weights;
  const void* w;
  int64_t w_stride;
  const void* x;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
  int64_t n_tokens;
  int64_t n_outputs;
  int64_t n_inputs;
};

// cuBLAS with a workspace of its own, so that its calls can be captured. It serves one stream at a
// time.
class GpuGemm {
 public:
  // The size that cuBLAS recommends for the largest of the architectures we compile for.
  static constexpr uint64_t kWorkspaceBytes = 32 << 20;

  GpuGemm();
  ~GpuGemm();
  GpuGemm(const GpuGemm&) = delete;
  GpuGemm& operator=(const GpuGemm&) = delete;

  enum class Result : uint8_t { kReplace, kAdd };  // what becomes of what y holds
  // Multiplies with sums in f32. Asynchronous on `stream`; throws Error.
  void Multiply(Stream& stream, const GpuGemmProduct& product, Result result = Result::kReplace);
  // y = x W^T, without gaps between rows. w: (n_rows, n_cols), x: (n_tokens, n_cols), y: (n_tokens,
  // n_rows).
  void MatMul(Stream& stream, float* y, const void* w, const void* x, GemmType type, int n_tokens,
              int n_rows, int n_cols, Result result = Result::kReplace);

 private:
  cublasContext* handle_ = nullptr;
  DeviceMemory workspace_;
};

}  // namespace thermocline
