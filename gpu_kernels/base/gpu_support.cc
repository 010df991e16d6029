#include "gpu_kernels/base/gpu_support.h"

#include <fmt/format.h>

#include <utility>

#include "gpu_kernels/base/check.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

// The least our kernels are compiled for.
constexpr int kMinMajor = 7;
constexpr int kMinMinor = 5;

GpuSupport No(std::string reason) { return {.available = false, .reason = std::move(reason)}; }

// CUDA's versions are 1000 * major + 10 * minor.
std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

GpuSupport WithoutDevice(cudaError_t error) {
  int driver = 0;
  int runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  if (driver == 0) return No("no NVIDIA driver is installed on this machine");
  if (error == cudaErrorInsufficientDriver) {
    return No(
        fmt::format("the NVIDIA driver supports CUDA {}, and this build needs {}: update the "
                    "driver, or build with an older CUDA toolkit",
                    VersionText(driver), VersionText(runtime)));
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    return No("the NVIDIA driver finds no GPU (is it hidden by CUDA_VISIBLE_DEVICES?)");
  }
  return No(fmt::format("the NVIDIA driver cannot be used: {} ({})", cudaGetErrorString(error),
                        cudaGetErrorName(error)));
}

}  // namespace

GpuSupport QueryGpuSupport() {
  int n_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&n_devices);
  cudaGetLastError();  // a machine without a GPU is no error of later calls
  if (error != cudaSuccess || n_devices == 0) return WithoutDevice(error);
  int device = 0;
  cudaDeviceProp properties = {};
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  const int major = properties.major;
  const int minor = properties.minor;
  const std::string name =
      fmt::format("{}, compute capability {}.{}", properties.name, major, minor);
  if (major < kMinMajor || (major == kMinMajor && minor < kMinMinor)) {
    return No(fmt::format("{} is too old: {}.{} or newer is needed", name, kMinMajor, kMinMinor));
  }
#ifdef THERMOCLINE_GPU_EMULATED
  constexpr bool kEmulated = true;
#else
  constexpr bool kEmulated = false;
#endif
  return {.available = true,
          .emulated = kEmulated,
          .reason = "",
          .device = name + ", " + FormatBytes(properties.totalGlobalMem)};
}

}  // namespace thermocline
