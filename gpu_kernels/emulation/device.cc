// Errors and the device itself.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gpu_kernels/emulation/control.h"
#include "gpu_kernels/emulation/runtime_api.h"
#include "gpu_kernels/emulation/stream.h"

using namespace thermocline::emulation;

namespace {

thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid launch configuration"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "the driver is too old"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no device is there"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "a kernel failed"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "not permitted while a stream is being captured"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "an earlier error invalidated the capture"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "the capture has work that was not joined to the stream it began in"},
};

const ErrorText& TextOf(cudaError_t error) {
  for (const ErrorText& text : kErrorTexts) {
    if (text.error == error) return text;
  }
  static constexpr ErrorText kUnknown = {cudaErrorInvalidValue, "unknown error", "unknown error"};
  return kUnknown;
}

// Whether CUDA_VISIBLE_DEVICES hides all devices. The driver's rule holds: an empty list, or one
// that begins with no device, hides them all.
bool DevicesAreHidden() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return visible != nullptr && (*visible == '\0' || std::string_view(visible).substr(0, 2) == "-1");
}

}  // namespace

namespace thermocline::emulation {

cudaError_t Failed(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace thermocline::emulation

const char* cudaGetErrorName(cudaError_t error) { return TextOf(error).name; }

const char* cudaGetErrorString(cudaError_t error) {
  thread_local std::string report;
  if (error != cudaErrorLaunchFailure || !HasReport()) return TextOf(error).text;
  report = PeekReport();
  return report.c_str();
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return HasReport() ? cudaErrorLaunchFailure : last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = DevicesAreHidden() ? 0 : CurrentSettings().n_devices;
  return Failed(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return Failed(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

// Describes the least device that we support, so that a kernel that asks for more fails here first.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return Failed(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated device");
  properties->totalGlobalMem = CurrentSettings().device_bytes;
  properties->sharedMemPerBlock = kMaxStaticBytes;
  properties->sharedMemPerBlockOptin = kMaxSharedBytes;
  properties->warpSize = kWarpSize;
  properties->maxThreadsPerBlock = kMaxThreads;
  properties->major = 7;
  properties->minor = 5;
  properties->multiProcessorCount = 2;
  properties->l2CacheSize = 1 << 20;
  properties->canMapHostMemory = 1;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 12000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 12000;
  return cudaSuccess;
}
