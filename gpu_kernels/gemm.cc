#include "gpu_kernels/gemm.h"

#include <fmt/format.h>

#include "gpu_kernels/check.h"
#include "runtime/core/error.h"

#ifdef THERMOCLINE_GPU_EMULATED
#include "gpu_kernels/emulation/cublas.h"
#else
#include <cublas_v2.h>
#endif

namespace thermocline {
namespace {

// What cuBLAS recommends for the largest of the architectures we compile for.
constexpr uint64_t kWorkspaceBytes = 32 << 20;

void CheckBlas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(
      {.what = fmt::format("GPU: {} failed: cuBLAS says {}", what, cublasGetStatusString(status))});
}

cudaDataType TypeOf(GemmType type) {
  switch (type) {
    case GemmType::kF32:
      return CUDA_R_32F;
    case GemmType::kF16:
      return CUDA_R_16F;
    case GemmType::kBf16:
      return CUDA_R_16BF;
  }
  CHECK(false);
}

}  // namespace

GpuGemm::GpuGemm() : workspace_(kWorkspaceBytes, "cuBLAS's workspace") {
  CheckBlas(cublasCreate(&handle_), "starting cuBLAS");
}

GpuGemm::~GpuGemm() { static_cast<void>(cublasDestroy(handle_)); }

void GpuGemm::MatMul(Stream& stream, float* y, const void* w, const void* x, GemmType type,
                     int n_tokens, int n_rows, int n_cols, Result result) {
  if (n_tokens == 0 || n_rows == 0) return;
  CheckBlas(cublasSetStream(handle_, stream.handle()), "choosing a stream");
  // Setting the stream resets the workspace.
  CheckBlas(cublasSetWorkspace(handle_, workspace_.as<void>(), workspace_.size()),
            "setting the workspace");
  const float alpha = 1;
  const float beta = result == Result::kAdd ? 1 : 0;
  const cudaDataType data = TypeOf(type);
  // cuBLAS counts by columns: what is (rows, cols) row by row is to it (cols, rows).
  CheckBlas(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, n_rows, n_tokens, n_cols, &alpha, w,
                         data, n_cols, x, data, n_cols, &beta, y, CUDA_R_32F, n_rows,
                         CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            fmt::format("a product of {} tokens with a {} x {} matrix", n_tokens, n_rows, n_cols)
                .c_str());
}

}  // namespace thermocline
