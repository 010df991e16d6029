// cuBLAS, loaded when a batch first needs it: a program linked to it would not start on a machine
// without it, and would map its hundreds of megabytes in runs that never use a GPU.
#pragma once

#ifdef THERMOCLINE_GPU_EMULATED
#include "gpu_kernels/emulation/cublas.h"
#else
#include <cublas_v2.h>
#endif

namespace thermocline {

// Written out: the header has an overload for callers of old.
using CublasGemmEx = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m,
                                    int n, int k, const void* alpha, const void* a, cudaDataType,
                                    int lda, const void* b, cudaDataType, int ldb, const void* beta,
                                    void* c, cudaDataType, int ldc, cublasComputeType_t,
                                    cublasGemmAlgo_t);

// The functions that the GEMMs of prefill call.
struct CublasLibrary {
  decltype(&cublasGetStatusString) status_string;
  decltype(&cublasCreate) create;
  decltype(&cublasDestroy) destroy;
  decltype(&cublasSetStream) set_stream;
  decltype(&cublasSetWorkspace) set_workspace;
  CublasGemmEx* gemm_ex;
};

// Throws Error where there is none of the version that this build was made with.
const CublasLibrary& Cublas();

}  // namespace thermocline
