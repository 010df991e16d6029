#include "gpu_kernels/emulation/cublas.h"

#include <Eigen/Core>
#include <cstdint>

#include "gpu_kernels/emulation/float16.h"
#include "gpu_kernels/emulation/memory.h"
#include "gpu_kernels/emulation/stream.h"

using namespace thermocline::emulation;

struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace {

// A column-major matrix somewhere on the device.
struct Operand {
  void* data;
  cudaDataType type;
  int64_t rows, cols, stride;
};

template <typename Visit>
void WithType(cudaDataType type, Visit visit) {
  switch (type) {
    case CUDA_R_32F:
      return visit(float{});
    case CUDA_R_16F:
      return visit(__half{});
    case CUDA_R_16BF:
      return visit(__nv_bfloat16{});
  }
}

Eigen::MatrixXf Load(const Operand& from) {
  Eigen::MatrixXf to(from.rows, from.cols);
  WithType(from.type, [&](auto scalar) {
    const auto* data = static_cast<const decltype(scalar)*>(from.data);
    for (int64_t col = 0; col < from.cols; ++col) {
      for (int64_t row = 0; row < from.rows; ++row) {
        to(row, col) = static_cast<float>(data[col * from.stride + row]);
      }
    }
  });
  return to;
}

void Store(const Operand& to, const Eigen::MatrixXf& values) {
  WithType(to.type, [&](auto scalar) {
    using Scalar = decltype(scalar);
    auto* data = static_cast<Scalar*>(to.data);
    for (int64_t col = 0; col < to.cols; ++col) {
      for (int64_t row = 0; row < to.rows; ++row) {
        data[col * to.stride + row] = static_cast<Scalar>(values(row, col));
      }
    }
  });
}

// Whether the whole operand lies in one allocation that the device sees.
bool OnDevice(const Operand& operand) {
  const size_t element = operand.type == CUDA_R_32F ? 4 : 2;
  const int64_t n = (operand.cols - 1) * operand.stride + operand.rows;
  const Place place = PlaceOf(operand.data, static_cast<size_t>(n) * element);
  return place == Place::kDevice || place == Place::kMapped;
}

bool Valid(const Operand& operand) {
  return operand.rows > 0 && operand.cols > 0 && operand.stride >= operand.rows &&
         OnDevice(operand);
}

}  // namespace

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown status";
}

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t /*handle*/, void* workspace, size_t n_bytes) {
  return PlaceOf(workspace, n_bytes) == Place::kDevice ? CUBLAS_STATUS_SUCCESS
                                                       : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                            int m, int n, int k, const void* alpha, const void* a,
                            cudaDataType type_a, int lda, const void* b, cudaDataType type_b,
                            int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t /*algorithm*/) {
  if (compute != CUBLAS_COMPUTE_32F || type_a != type_b ||
      (type_c != CUDA_R_32F && type_c != type_a)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool flip_a = op_a == CUBLAS_OP_T;
  const bool flip_b = op_b == CUBLAS_OP_T;
  const Operand left{const_cast<void*>(a), type_a, flip_a ? k : m, flip_a ? m : k, lda};
  const Operand right{const_cast<void*>(b), type_b, flip_b ? n : k, flip_b ? k : n, ldb};
  const Operand out{c, type_c, m, n, ldc};
  if (!Valid(left) || !Valid(right) || !Valid(out)) return CUBLAS_STATUS_INVALID_VALUE;
  const float scale = *static_cast<const float*>(alpha);
  const float keep = *static_cast<const float*>(beta);
  const cudaError_t error = Enqueue(handle->stream, [=] {
    const Eigen::MatrixXf x = Load(left);
    const Eigen::MatrixXf y = Load(right);
    Eigen::MatrixXf sum =
        keep == 0 ? Eigen::MatrixXf::Zero(m, n).eval() : (keep * Load(out)).eval();
    if (flip_a && flip_b) sum.noalias() += scale * (x.transpose() * y.transpose());
    if (flip_a && !flip_b) sum.noalias() += scale * (x.transpose() * y);
    if (!flip_a && flip_b) sum.noalias() += scale * (x * y.transpose());
    if (!flip_a && !flip_b) sum.noalias() += scale * (x * y);
    Store(out, sum);
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
