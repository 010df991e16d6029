// CUDA, or in an emulated build the same names over host C++: what kernels and the device layer
// include, and nothing else does (headers for the rest of the project name no CUDA type).
#pragma once

#ifdef THERMOCLINE_GPU_EMULATED
#include "gpu_kernels/emulation/float16.h"
#include "gpu_kernels/emulation/intrinsics.h"
#include "gpu_kernels/emulation/kernel_language.h"
#include "gpu_kernels/emulation/runtime_api.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif
