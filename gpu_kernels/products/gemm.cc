#include "gpu_kernels/products/gemm.h"

#include <fmt/format.h>

#include <limits>

#include "gpu_kernels/base/check.h"
#include "gpu_kernels/base/cublas_library.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

void CheckBlas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error({.what = fmt::format("GPU: {} failed: cuBLAS says {}", what,
                                   Cublas().status_string(status))});
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
  CheckBlas(Cublas().create(&handle_), "starting cuBLAS");
}

GpuGemm::~GpuGemm() { static_cast<void>(Cublas().destroy(handle_)); }

void GpuGemm::Multiply(Stream& stream, const GpuGemmProduct& product, Result result) {
  if (product.n_tokens == 0 || product.n_outputs == 0) return;
  CheckBlas(Cublas().set_stream(handle_, stream.handle()), "choosing a stream");
  // Setting the stream resets the workspace.
  CheckBlas(Cublas().set_workspace(handle_, workspace_.as<void>(), workspace_.size()),
            "setting the workspace");
  const float alpha = 1;
  const float beta = result == Result::kAdd ? 1 : 0;
  const cudaDataType data = TypeOf(product.type);
  // cuBLAS counts by columns: what is (rows, cols) row by row is (cols, rows) to it.
  const bool by_output = product.weights == GpuGemmProduct::Weights::kRowPerOutput;
  const auto int_of = [](int64_t n) {
    CHECK(n <= std::numeric_limits<int>::max());
    return static_cast<int>(n);
  };
  CheckBlas(
      Cublas().gemm_ex(handle_, by_output ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N,
                       int_of(product.n_outputs), int_of(product.n_tokens),
                       int_of(product.n_inputs), &alpha, product.w, data, int_of(product.w_stride),
                       product.x, data, int_of(product.x_stride), &beta, product.y, CUDA_R_32F,
                       int_of(product.y_stride), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      fmt::format("a product of {} tokens with a {} x {} matrix", product.n_tokens,
                  product.n_outputs, product.n_inputs)
          .c_str());
}

void GpuGemm::MatMul(Stream& stream, float* y, const void* w, const void* x, GemmType type,
                     int n_tokens, int n_rows, int n_cols, Result result) {
  Multiply(stream,
           {.type = type,
            .weights = GpuGemmProduct::Weights::kRowPerOutput,
            .w = w,
            .w_stride = n_cols,
            .x = x,
            .x_stride = n_cols,
            .y = y,
            .y_stride = n_rows,
            .n_tokens = n_tokens,
            .n_outputs = n_rows,
            .n_inputs = n_cols},
           result);
}

}  // namespace thermocline
