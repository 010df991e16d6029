#include "gpu_kernels/base/cublas_library.h"

#ifndef THERMOCLINE_GPU_EMULATED
#include <dlfcn.h>
#include <fmt/format.h>

#include <string>

#include "runtime/core/error.h"
#endif

namespace thermocline {

#ifdef THERMOCLINE_GPU_EMULATED

const CublasLibrary& Cublas() {
  static constexpr CublasLibrary kLibrary = {
      .status_string = &cublasGetStatusString,
      .create = &cublasCreate,
      .destroy = &cublasDestroy,
      .set_stream = &cublasSetStream,
      .set_workspace = &cublasSetWorkspace,
      .gemm_ex = &cublasGemmEx,
  };
  return kLibrary;
}

#else

namespace {

// Where the loader looks, then in the toolkit that this was built with. Never unloaded.
void* OpenCublas() {
  const std::string name = fmt::format("libcublas.so.{}", CUBLAS_VER_MAJOR);
  constexpr int kHow = RTLD_NOW | RTLD_LOCAL;
  if (void* library = dlopen(name.c_str(), kHow)) return library;
  const std::string why = dlerror();
  const std::string folder = THERMOCLINE_CUDA_LIBRARIES;
  if (void* library = dlopen((folder + "/" + name).c_str(), kHow)) return library;
  throw Error(
      {.what = "cuBLAS cannot be loaded: " + why,
       .expected = fmt::format("{} where the loader looks, or in {}", name, folder),
       .hint = fmt::format("install cuBLAS of CUDA {}, or add its folder to LD_LIBRARY_PATH",
                           CUBLAS_VER_MAJOR)});
}

template <class Function>
Function* Find(void* library, const char* name) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    throw Error({.what = fmt::format("cuBLAS has no function {}", name),
                 .hint = "install the cuBLAS of the CUDA version that this was built with"});
  }
  return reinterpret_cast<Function*>(symbol);
}

// cuBLAS's header renames some of its functions by macros: the name is what they expand to.
#define CUBLAS_NAME_OF(function) #function
#define CUBLAS_FIND(library, function) Find<decltype(function)>(library, CUBLAS_NAME_OF(function))

CublasLibrary LoadCublas() {
  void* library = OpenCublas();
  return {
      .status_string = CUBLAS_FIND(library, cublasGetStatusString),
      .create = CUBLAS_FIND(library, cublasCreate),
      .destroy = CUBLAS_FIND(library, cublasDestroy),
      .set_stream = CUBLAS_FIND(library, cublasSetStream),
      .set_workspace = CUBLAS_FIND(library, cublasSetWorkspace),
      .gemm_ex = Find<CublasGemmEx>(library, "cublasGemmEx"),
  };
}

}  // namespace

const CublasLibrary& Cublas() {
  static const CublasLibrary library = LoadCublas();
  return library;
}

#endif

}  // namespace thermocline
