// Launches kernels; for .cu files. No kernel is started any other way:
//
//   Launch(KERNEL(add_kernel<4>), {.grid = dim3(n_blocks), .block = dim3(kThreads), .stream =
//   stream}, y, x, n);
//
// The arguments are converted to the kernel's parameters as in a call. Throws Error that names the
// kernel. With THERMOCLINE_SYNC_LAUNCHES=1 each launch is waited for, so that an error is reported
// by the launch that made it (a launch that is being captured is not).
#pragma once

#include <cstddef>
#include <tuple>

#include "gpu_kernels/base/check.h"
#include "gpu_kernels/base/stream.h"

#ifdef THERMOCLINE_GPU_EMULATED
#include <type_traits>
#include <vector>

#include "gpu_kernels/emulation/stream.h"
#endif

namespace thermocline {

struct LaunchConfig {
  dim3 grid;                // blocks; x up to 2^31 - 1, y and z up to 65535
  dim3 block;               // threads; a multiple of 32 together, at most 1024
  size_t shared_bytes = 0;  // dynamic shared memory per block, at most 64 KiB with the static part
  Stream& stream;
};

template <typename... Parameters>
struct Kernel {
  void (*function)(Parameters...);
  const char* name;
  const char* file;
  int line;
};
template <typename... Parameters>
Kernel<Parameters...> MakeKernel(void (*function)(Parameters...), const char* name,
                                 const char* file, int line) {
  return {function, name, file, line};
}
#define KERNEL(...) ::thermocline::MakeKernel(__VA_ARGS__, #__VA_ARGS__, __FILE__, __LINE__)

// Throws when the launch failed and, where asked for by the environment, waits for it first.
void CheckLaunch(cudaError_t error, const char* kernel, Stream& stream, const char* file, int line);

// Dynamic shared memory above this must be asked for by kernel.
constexpr size_t kDefaultSharedBytes = 48 << 10;

template <typename... Parameters, typename... Arguments>
void Launch(const Kernel<Parameters...>& kernel, const LaunchConfig& config,
            Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
#ifdef THERMOCLINE_GPU_EMULATED
  std::vector<const void*> pointers;
  const auto note = [&pointers](const auto& value) {
    if constexpr (std::is_pointer_v<std::decay_t<decltype(value)>>) {
      pointers.push_back(const_cast<const void*>(static_cast<const volatile void*>(value)));
    }
  };
  std::apply([&](const auto&... value) { (note(value), ...); }, values);
  const cudaError_t error = emulation::EnqueueKernel(
      config.stream.handle(), {kernel.name, config.grid, config.block, config.shared_bytes},
      pointers, [function = kernel.function, values] { std::apply(function, values); });
#else
  cudaError_t error = cudaSuccess;
  if (config.shared_bytes > kDefaultSharedBytes) {
    error = cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(config.shared_bytes));
  }
  if (error == cudaSuccess) {
    std::apply(
        [&](auto&... value) {
          void* pointers[] = {static_cast<void*>(&value)..., nullptr};
          error =
              cudaLaunchKernel(reinterpret_cast<const void*>(kernel.function), config.grid,
                               config.block, pointers, config.shared_bytes, config.stream.handle());
        },
        values);
  }
#endif
  CheckLaunch(error, kernel.name, config.stream, kernel.file, kernel.line);
}

}  // namespace thermocline
