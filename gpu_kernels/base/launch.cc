#include "gpu_kernels/base/launch.h"

#include <cstdlib>
#include <string>
#include <string_view>

namespace thermocline {
namespace {

bool SyncLaunches() {
  static const bool sync = [] {
    const char* value = std::getenv("THERMOCLINE_SYNC_LAUNCHES");
    return value != nullptr && std::string_view(value) == "1";
  }();
  return sync;
}

}  // namespace

void CheckLaunch(cudaError_t error, const char* kernel, Stream& stream, const char* file,
                 int line) {
  if (error == cudaSuccess && SyncLaunches() && !stream.Capturing()) {
    error = cudaStreamSynchronize(stream.handle());
  }
  if (error != cudaSuccess) {
    ThrowCudaError(error, std::string("launching ") + kernel, file, line);
  }
}

}  // namespace thermocline
