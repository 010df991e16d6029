// cuBLAS is there, whole, on a machine that has the toolkit: loading it needs neither driver nor
// GPU.
#include "gpu_kernels/base/cublas_library.h"

#include <gtest/gtest.h>

#include <string>

namespace thermocline {
namespace {

TEST(CublasLibrary, HasEveryFunction) {
  const CublasLibrary& library = Cublas();
  EXPECT_NE(std::string(library.status_string(CUBLAS_STATUS_SUCCESS)),
            library.status_string(CUBLAS_STATUS_NOT_INITIALIZED));
  EXPECT_NE(library.create, nullptr);
  EXPECT_NE(library.destroy, nullptr);
  EXPECT_NE(library.set_stream, nullptr);
  EXPECT_NE(library.set_workspace, nullptr);
  EXPECT_NE(library.gemm_ex, nullptr);
  EXPECT_EQ(&Cublas(), &library);
}

}  // namespace
}  // namespace thermocline
