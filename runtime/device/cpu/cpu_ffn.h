// What the CPU's FFN hands from the pass to its parts; cpu_ffn.cc and cpu_predict.cc share it.
#pragma once

#include "runtime/device/cpu/cpu_device.h"

namespace thermocline {

// What the lanes of a pass have in common, and one lane's scratch.
struct CpuDevice::FfnPart {
  const FfnOp& op;
  const FfnState& state;
  int64_t n_tokens;
  const std::byte* gate_x;  // the tokens, prepared for gate and for up
  int64_t gate_x_stride;
  const std::byte* up_x;
  int64_t up_x_stride;
  int32_t* rows;           // scratch of the lane
  float* h;                // scratch of the lane
  const std::byte* inner;  // inner vectors of the lane
  const SignInput* signs;  // signs of the lane
  float* partial;          // (n_tokens, d_model) output of the part
  PassMarker* timer;
};

}  // namespace thermocline
